# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of the kernel log as text: ``dmesg``, ``journalctl -k``, syslog, a serial console.

::

    [    0.000000] Linux version 6.12.107+deb13-amd64 (...) #1 SMP ...
    [    0.000000] Command line: BOOT_IMAGE=/vmlinuz mem_encrypt=on
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from staleline.errors import EvidenceError
from staleline.evidence.log import xen
from staleline.evidence.log.printk import Message, is_of_log, message_of
from staleline.evidence.log.wordings import Wording, wordings, wordings_of
from staleline.evidence.pasted.prompts import is_prompt
from staleline.evidence.snapshot import KernelEvidence, LogEvidence, Note, Snapshot
from staleline.evidence.staleline_collect import is_relevant
from staleline.pattern import Pattern

__all__ = ["host_name", "is_read", "is_row", "opens", "parse"]

#: journalctl puts one of these between two boots.
_NEXT_BOOT = Pattern(r"-- (?:Boot [0-9a-f]{32}|Reboot) --")
#: What people write above a log; firmware and boot loaders end no line so.
_HEADING = Pattern(r"\s*(?:#{1,6} .*|.{0,120}\w.{0,4}:)\s*")
#: What web pages put around an excerpt.
_FENCE = Pattern(r"\s{0,8}(?:`{3}|~{3}|\{(?:code|noformat)|</?(?:pre|code|details)\b)")
#: Messages of other CPUs may come a little late; a whole second back is another boot.
_BACK = 1.0
#: printk keeps about 1000 bytes of a message (LOG_LINE_MAX); a longer one is cut or split.
_CUT = 900
#: Linux 7.3.4 init/main.c print_kernel_cmdline() ends all but the last line so.
_WRAPPED = " \\"
#: Of quoted-printable (RFC 2045), where what is around it does not show that it is.
_ENCODED = "=3D"
#: What hosts are called until they learn their names, by kernel, systemd and images of clouds.
_BEFORE_ITS_NAME = frozenset(
    {
        *("(none)", "localhost", "linux", "fedora", "archlinux", "nixos", "ubuntu", "debian"),
        *("rhel", "centos", "rocky", "almalinux", "opensuse", "amazon", "cloud", "buildroot"),
    }
)
#: With or without its domain; an address is the name of a host as a whole.
_NAME = Pattern(r"[a-z0-9-]*[a-z-][a-z0-9-]*(?:\.[\w.-]*)?")
_UNKEPT = ("Linux version ", "Command line: ", "Kernel command line: ")

_NOTES = (
    Note("cpuid", "only the kernel log was given; run cpuid -r, or staleline collect"),
    Note("kernel log", "it is not known that the text is whole"),
)


def is_row(line: str) -> bool:
    """Is this a line of a kernel log, or of Xen's on the same console?"""
    return _message(line) is not None or xen.is_console(line)


def opens(line: str) -> bool:
    """Does only a log, or a console, hold this line?"""
    return message_of(line) is not None or xen.is_console(line)


def is_read(line: str) -> bool:
    """Does `line`, of a log, say something that is known, where it stands?"""
    message = _message(line)
    return xen.is_console(line) or (message is not None and any(_wordings_of(message.text)))


def parse(text: str, where: str) -> Snapshot:
    """Return what the kernel log `text` tells of the last boot in it.

    Raises:
        EvidenceError: `text` holds no message.
    """
    apart, messages = _last_boot(text, where)
    of_xen = any(map(xen.is_console, (*text.split("\n"), *apart, *messages)))
    if not (messages or apart or of_xen) and not any(map(_message, text.split("\n"))):
        raise EvidenceError("holds no kernel message", where=where, do="give the output of dmesg")
    return Snapshot(
        cpus=(),
        kernel=KernelEvidence(
            release=next(_texts("linux-version", "release", messages), None),
            cmdline=_command_line(messages),
        ),
        # A text may have been filtered, cut or put together, and does not tell: what it lacks means
        # nothing, whatever it begins and ends with.
        log=LogEvidence(tuple(filter(is_relevant, (*apart, *messages))), complete=False),
        notes=_NOTES,
        statements=xen.statements("Xen's console") if of_xen else (),
    )


def _message(line: str) -> Message | None:
    if message := message_of(line):
        return message
    # A bare line, as of journalctl -o cat, could be anybody's: only known wordings count.
    bare = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip("\r\0")
    return Message(bare) if any(_wordings_of(bare)) else None


def _wordings_of(message: str) -> Iterator[Wording]:
    if is_relevant(message) or message.startswith(_UNKEPT):
        yield from wordings_of(message)


def _last_boot(text: str, where: str) -> tuple[list[str], list[str]]:
    """The messages of the last boot; those before its first are of another kernel.

    Where something else stands between, two excerpts of one log may have been put together in
    any order: what may be of the last boot as well comes first.

    Raises:
        EvidenceError: A heading stands between two boots, so they may be of two machines, two
            messages are of two hosts, or two boots are on CPUs of two makers.
    """
    hosts: dict[str, int] = {}
    apart: list[str] = []
    messages: list[str] = []
    said: set[str] = set()
    before = 0.0
    heading = ""
    gap = fenced = False
    makers = _Makers(where)
    lines = text.split("\n")
    for number, line in enumerate(lines):
        message = _message(line)
        if message is None:
            if _NEXT_BOOT.fullmatch(line.strip()):
                makers.next_boot()
                apart, messages, said, before = [], [], set(), 0.0
            heading = line if line.strip() else heading
            gap, fenced = True, fenced or _FENCE.match(line) is not None
            continue
        _require_one_host(message.host, hosts, where, number)
        rows = list(_wordings_of(message.text))
        cut = any(row.tail for row in rows) and _goes_on(line, message.text, lines[number + 1 :])
        once = {row.id for row in rows if row.once}
        if messages and messages[-1].endswith(_WRAPPED):
            once.discard("kernel-command-line")
        again = bool(once & said) or "linux-version" in once
        if messages and again and _HEADING.fullmatch(heading):
            raise EvidenceError(
                "begins another log below a heading, which may be of another machine",
                where=f"{where}:{number + 1}",
                do="give one file per machine, with one log",
            )
        heading = ""
        back = message.seconds is not None and message.seconds < before - _BACK
        if again or back:
            makers.next_boot()
            apart = [*apart, *messages] if fenced or (gap and not again) else []
            messages, said, before = [], set(), 0.0
        gap = fenced = False
        makers.look(rows, message.text, number)
        if not cut:
            messages.append(message.text)
        said |= once
        before = before if message.seconds is None else message.seconds
    return apart, messages


class _Makers:
    """Whose CPUs the messages of each boot in a text were said on: all boots are of one machine.

    Those of one boot are held against each other where the whole machine is.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._of_boots: list[tuple[int, frozenset[str]]] = []
        self._line = 0
        self._possible: frozenset[str] = frozenset()

    def next_boot(self) -> None:
        """The lines from here on are of another boot."""
        if self._possible:
            self._of_boots.append((self._line, self._possible))
        self._possible = frozenset()

    def look(self, rows: Iterable[Wording], message: str, number: int) -> None:
        """Take in what the line of this number, from 0, says.

        Raises:
            EvidenceError: An earlier boot was on another maker's CPU.
        """
        for row in rows:
            told = row.values(message).get("vendor")
            makers = row.vendors if told is None else frozenset({str(told)})
            if not makers:
                continue
            for line, others in self._of_boots:
                if not others & makers:
                    raise EvidenceError(
                        f"is of a CPU of {' or '.join(sorted(makers))}, and line {line} of one of"
                        f" {' or '.join(sorted(others))}",
                        where=f"{self._where}:{number + 1}",
                        do="give one file per machine",
                    )
            if not self._possible or self._possible > makers:
                self._line, self._possible = number + 1, makers


def host_name(host: str | None) -> str | None:
    """What tells a host from others, with or without its domain; None before it had a name."""
    name = (host or "").lower()
    if _NAME.fullmatch(name):
        name = name.partition(".")[0]
    return None if name in _BEFORE_ITS_NAME else name or None


def _require_one_host(host: str | None, hosts: dict[str, int], where: str, line: int) -> None:
    """Refuse the log of another host: a server that collects logs has those of all in one file.

    Raises:
        EvidenceError: It is of another than the first of `hosts`, to which it is added.
    """
    if (name := host_name(host)) is None:
        return
    hosts.setdefault(name, line)
    other = next(iter(hosts))
    if name != other:
        raise EvidenceError(
            f"is a message of host {name}, and line {hosts[other] + 1} one of {other}",
            where=f"{where}:{line + 1}",
            do="give one file per machine; where a host was renamed, journalctl --no-hostname",
        )


def _goes_on(line: str, message: str, behind: Sequence[str]) -> bool:
    """May more of `message` have stood behind `line` than there is?

    The text may end within it; mail programs and terminals wrap lines; a pager shows > where it
    cuts one off, and journalctl an ellipsis (systemd's ellipsize_mem()).
    """
    if not behind or message.rstrip().endswith(">") or re.search(r"\.\.\.|\u2026", message):
        return True
    following = behind[0]
    ends = not following.strip() or following.startswith("--") or is_prompt(following)
    if ends or is_of_log(following) or _message(following) is not None:
        return False
    # A bare line has nothing to tell the next message by, but few parameters end in a colon.
    return message_of(line) is not None or re.search(r":(?:\s|$)", following) is None


def _command_line(messages: list[str]) -> str | None:
    """What /proc/cmdline held: the later message, which holds what bootconfig added too."""
    whole = list(_texts("kernel-command-line", "cmdline", messages))
    if whole:
        wrapped = len(whole) > 1 or whole[0].endswith(_WRAPPED)
        return None if wrapped or _is_changed(whole[0]) else whole[0]
    early = next(_texts("command-line", "cmdline", messages), None)
    if early is None or _is_changed(early) or "bootconfig" in early.split():
        return None
    return early


def _is_changed(line: str) -> bool:
    """Is it longer than printk keeps, or does it hold what a mail writes for an equals sign?"""
    return len(line) > _CUT or line.count("=") == line.count(_ENCODED) > 0


def _texts(wording: str, group: str, messages: list[str]) -> Iterator[str]:
    row = next(row for row in wordings() if row.id == wording)
    for message in messages:
        if words := row.match(message):
            yield words[group]

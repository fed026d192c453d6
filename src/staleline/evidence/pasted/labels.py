# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose an output is, where people or tools write that over it: two machines in one paste.

::

    Host:                 ### Server 1            ==> node-a/cpuid.txt <==
    (its lscpu)           (its dmesg)             (what head shows of several files)

    Guest:                ### Server 2            ==> node-b/dmesg.txt <==

Outputs of two machines, of which none denies the other, would be read as those of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, islice, pairwise
from typing import Final

from staleline.errors import EvidenceError
from staleline.evidence.pasted.prompts import is_prompt
from staleline.pattern import Pattern

__all__ = ["of_two_machines", "require_one_machine"]

#: What stands before and behind the words of a heading, in mails, wikis and reports.
_MARKS: Final = r"[#*_=\-+>|<\[\]()`.: \t\uff1a]{0,12}"
_HOST: Final = (
    "(?:hypervisor|physical|bare[ -]?metal) (?:host|machine|server)|host|hypervisor|dom0|l0"
    "|bare[ -]?metal|\u5bbf\u4e3b\u673a|\u7269\u7406\u673a"
)
_GUEST: Final = (
    "(?:guest|virtual) (?:machine|vm|os)|vm guest|guest|vm|domu|l[12]|instance"
    "|\u865a\u62df\u673a|\u5ba2\u6237\u673a"
)
_NUMBERED: Final = "server|node|machine|system|computer|box|pc|laptop|desktop"
#: What tells one machine from another by a word: no system, as "operating" and "file" stand there.
_TOLD_APART: Final = "server|node|machine|computer|box|pc|laptop|host|vm"
_ABOUT: Final = (
    r"(?:'s)?(?: (?:machine|system|side|os|kernel|log|logs|dmesg|output|cpu|cpuinfo|lscpu|info"
    r"|information|details|specs?|shows|says|gives|prints))*"
)
#: No heading is longer, and few lines of logs and dumps are as short.
_LONGEST: Final = 48
#: A heading that is the host's or a guest's, or of one of several machines.
_HEADING = Pattern(
    rf"{_MARKS}(?:(?:on|in|inside|within|from|at|of) )?(?:(?:the|my|a|our) )?"
    rf"(?:(?:(?P<host>{_HOST})|(?P<guest>{_GUEST})"
    rf"|(?P<noun>{_NUMBERED})(?=[ #_-]{{0,2}}(?:[0-9]|[a-h]\b)))"
    rf"(?:[ #_-]{{0,2}}(?P<number>[0-9]{{1,4}}|[a-h]\b))?"
    rf"|(?P<which>[a-z]{{2,14}}) (?P<told>{_TOLD_APART}))"
    rf"{_ABOUT}{_MARKS}",
    re.IGNORECASE,
)
#: head and tail of several files; more shows colons around a name.
_FILE = Pattern(
    r"^(?:==> (?P<file>\S[^\n]{0,200}?) <==|:{14}\n(?P<more>\S[^\n]{0,200})\n:{14})$", re.MULTILINE
)
_TOOLS: Final = ("cat ", "less ", "head ", "tail ")
#: A file that was kept, unlike those of the machine that the command runs on.
_SHOWN = Pattern(
    r"^[^\n]{0,200}[#$%>] *(?:(?:sudo|doas) +)?(?:z?cat|z?less|head|tail) (?P<paths>[^\n]{1,200})$",
    re.MULTILINE,
)
_OWN = Pattern(r"/(?:proc|sys|dev|run|etc|boot|var/(?:log|run))/.*|-.*|[^/]*[|<>;&].*")
#: What is held against each other takes time that grows with the square of their number.
_LABELS_MAX: Final = 256
_ADDRESS: Final = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
#: One letter names a directory's machine; as a file's name it may be of any file.
_WORD = Pattern(rf"{_ADDRESS}|[A-Za-z](?=/)|[A-Za-z]{{2,}}(?:[-_]?[0-9]{{1,4}}(?![0-9]))?")
_NUMBER = Pattern(rf"{_ADDRESS}|[-_]?[0-9]+$|(?<=[a-z])[A-Z]$|^[A-Za-z]$")
#: What says which output a file holds, and not whose, nor of which of a machine's CPUs.
_OF_FORMATS: Final = frozenset(
    {
        *("aida", "aida64", "all", "boot", "bz", "capabilities", "cat", "cmdline", "collect"),
        *("conf", "config", "core", "cpu", "cpuid", "cpuinfo", "cpus", "data", "debug"),
        *("dmesg", "dump", "dumps", "early", "file", "files", "full", "gz", "hardware"),
        *("home", "hw", "hwinfo", "info", "inxi", "journal", "journalctl", "json", "kdump"),
        *("kern", "kernel", "kexec", "last", "libcpuid", "log", "logs", "lscpu", "md"),
        *("messages", "mnt", "msr", "msrs", "new", "numa", "online", "opt", "out", "output"),
        *("package", "part", "present", "prev", "proc", "processor", "pu", "raw", "rdmsr"),
        *("report", "results", "root", "serial", "snphost", "socket", "sos", "state"),
        *("status", "sys", "syslog", "system", "tar", "test", "text", "thread", "tmp", "tsv"),
        *("txt", "uname", "usr", "var", "virsh", "vmcore", "xml", "xz", "zst"),
    }
)


@dataclass(frozen=True, slots=True)
class _Label:
    """What stands over an output: the side or number that tells whose it is, or a file's name."""

    start: int
    text: str
    side: str | None = None
    number: tuple[str, str] | None = None
    path: str | None = None


def require_one_machine(text: str, where: str, is_telling: Callable[[str], object]) -> None:
    """Refuse a text in which the outputs below two labels are of two machines.

    Args:
        text: In plain characters.
        where: The file, for error messages.
        is_telling: Is this a line that some format begins with?

    Raises:
        EvidenceError: They are.
    """
    labels = sorted(islice(_labels(text), _LABELS_MAX), key=lambda label: label.start)
    if not any(_tells_apart(*pair) for pair in combinations(labels, 2)):
        return
    groups = [tuple(group) for _, group in groupby(labels, key=lambda label: label.start)]
    ends = [group[0].start for group in groups[1:]] + [len(text)]
    told: list[_Label] = []
    for group, end in zip(groups, ends, strict=True):
        below = text[group[0].start : end].split("\n")[1:]
        if not any(map(is_telling, below)):
            continue
        told += group
        pairs = ((first, second) for second in group for first in told)
        for first, second in pairs:
            if _tells_apart(first, second):
                raise EvidenceError(
                    f"is of {second.text}, and line {_line(text, first)} of {first.text}",
                    where=f"{where}:{_line(text, second)}",
                    do="give one file per machine",
                )


def of_two_machines(names: Iterable[str]) -> tuple[str, str] | None:
    """Two of these files that are named as those of two machines are; None where none are."""
    return next((pair for pair in pairwise(sorted(names)) if _names_tell_apart(*pair)), None)


def _line(text: str, label: _Label) -> int:
    return text.count("\n", 0, label.start) + 1


def _labels(text: str) -> Iterator[_Label]:
    start = -1
    for line in text.split("\n"):
        here, start = start + 1, start + 1 + len(line)
        heading = _HEADING.fullmatch(line) if 1 < len(line) <= _LONGEST else None
        if heading is None:
            continue
        side = "host" if heading["host"] else "guest" if heading["guest"] else None
        words = heading[0].strip(" \t#*_=-+>|<[]()`.:\uff1a")
        number = heading["number"] or heading["which"]
        noun = heading["host"] or heading["guest"] or heading["noun"] or heading["told"]
        named = (noun.lower(), number.lower()) if number else None
        yield _Label(here, f'"{words}"', side, named)
    if "<==" in text or ":" * 14 in text:
        for file in _FILE.finditer(text):
            yield _of_file(file.start(0), file["file"] or file["more"])
    for shown in _SHOWN.finditer(text) if any(tool in text for tool in _TOOLS) else ():
        if is_prompt(shown[0]):
            kept = (path for path in shown["paths"].split() if not _OWN.fullmatch(path))
            yield from (_of_file(shown.start(0), path) for path in kept)


def _of_file(start: int, path: str) -> _Label:
    return _Label(start, path, path=path)


def _tells_apart(first: _Label, second: _Label) -> bool:
    if first.path is not None and second.path is not None:
        return _names_tell_apart(first.path, second.path)
    if None not in (first.side, second.side) and first.side != second.side:
        return True
    if first.number is None or second.number is None:
        return False
    return first.number[0] == second.number[0] and first.number != second.number


def _names_tell_apart(first: str, second: str) -> bool:
    """Do two names differ by whose they are?

    By a number or letter alone, or by directories over files of one name.
    """
    one, other = _whose(first), _whose(second)
    if one == other or not (one and other):
        return False
    alike = [_NUMBER.sub("#", word) for word in one] == [_NUMBER.sub("#", word) for word in other]
    same_file = first.rpartition("/")[2] == second.rpartition("/")[2]
    return alike or (same_file and "/" in first and "/" in second)


def _whose(path: str) -> Sequence[str]:
    """The words of a file's name that do not say what it holds."""
    return [
        word
        for word in _WORD.findall(path)
        if re.sub("[-_]?[0-9]+$", "", word).lower() not in _OF_FORMATS
    ]

# SPDX-License-Identifier: GPL-2.0-or-later
"""A line of a kernel log as people have it, without what is put before the message.

``dmesg`` with all its options, ``journalctl -k`` in every output of one line, syslog files,
/dev/kmsg, and what a serial console showed. What a user's program wrote is no message.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from staleline.pattern import Pattern

__all__ = ["Message", "is_of_log", "message_of"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the kernel; `seconds` since boot and the host where the line tells."""

    text: str
    seconds: float | None = None
    host: str | None = None


#: Colours and cursor movements.
_ESCAPE = Pattern(r"\x1b\[[0-9;?]*[A-Za-z]")
_KERNEL_FACILITY = 0
#: <level> or level,sequence,time,flags; the facility is in the bits above the lowest three
#: (Linux Documentation/ABI/testing/dev-kmsg). What programs write has another than 0.
_RAW = Pattern(r"<([0-9]{1,3})>")
_KMSG = Pattern(r"([0-9]{1,3}),[0-9]{1,20},([0-9]{1,20}),[-c+,\w=]*;")
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ZONE = r"(?:Z|[+-][0-9]{2}:?[0-9]{2})"
#: Syslog's protocol, level and version first (RFC 5424).
_SYSLOG = Pattern(
    rf"<([0-9]{{1,3}})>1 {_DAY}T{_CLOCK}{_ZONE} (\S+) kernel \S+ \S+ (?:-|\[[^\]]*\]) ?\ufeff?"
)
#: dmesg -x (util-linux): "kern  :info  : ".
_DECODED = Pattern(r"([a-z]{2,8}[0-9]?) *:([a-z]{3,6}) *: ")
_DELTA = r"(?: *<[ +0-9.]*>)?"
_MONOTONIC = rf"\[ *([0-9]{{1,10}}\.[0-9]{{1,9}}){_DELTA}\]"
_DATE = "|".join(
    (
        rf"[A-Z][a-z]{{2}} [ 0-9][0-9] {_CLOCK}",  # short, short-precise, syslog
        rf"(?:[A-Z][a-z]{{2}} )?{_DAY} {_CLOCK}(?: [A-Z+0-9:-]{{1,8}})?",  # short-full, with-unit
        rf"{_DAY}T{_CLOCK}{_ZONE}",  # short-iso, RFC 5424
        r"[0-9]{9,11}\.[0-9]{3,9}",  # short-unix
    )
)
#: What journalctl and syslog put before a message of the kernel; --no-hostname leaves the host out.
_JOURNAL = Pattern(
    rf"(?:(?:{_DATE})|{_MONOTONIC}) (?:(?!kern\.[a-z]+ )([\w.:-]+) )?"
    r"(?:kern\.[a-z]+ )?kernel(?:\[n/a\])?: ?"
)
_OTHER_TIME = "|".join(
    (
        rf"[^\[\]<>]{{2,24}} {_CLOCK} [0-9]{{4}}{_DELTA}",  # dmesg -T
        r"[A-Z][a-z]{2} ?[0-9]{1,2} [0-9]{2}:[0-9]{2}",  # dmesg -e
        r" *\+[0-9]{1,10}\.[0-9]{6}",  # dmesg -e
        r" *<[ +0-9.]*>",  # dmesg -t -d
        rf"{_DAY}[ T]{_CLOCK}[^\]]{{0,8}}",  # console servers
        r"\.{2,3}| *[.x*_]{1,5}\.[.x*_]{1,6}",  # left out, as in Documentation/arch/x86/tdx.rst
    )
)
_BRACKETS = Pattern(rf"(?:{_MONOTONIC}|\[(?:{_OTHER_TIME})\])(?: ?\[ *[TC][0-9]+\])? ?")
_CALLER = Pattern(r"\[ *[TC][0-9]+\] ")
#: dmesg --time-format iso; only it has a comma there, so no line of a journal is taken for one.
_ISO = Pattern(rf"{_DAY}T[0-9:]{{8}},[0-9]{{6}}{_ZONE} (?:\[ *[TC][0-9]+\] )?")


#: What anybody's line of a journal or a syslog file begins with.
_STAMPED = Pattern(rf"(?:(?:{_DATE})|{_MONOTONIC}) \S")


def is_of_log(line: str) -> bool:
    """Does `line` begin as lines of a log do, whoever wrote it?"""
    begun = _ESCAPE.sub("", line)
    return any(pattern.match(begun) for pattern in (_STAMPED, _RAW, _KMSG, _DECODED, _BRACKETS))


#: What a writer puts before one line of a log and not the next: an item's mark, emphasis, the
#: number that grep or cat gave it, the clock of a CI service. Marks of a quotation are not among
#: them, nor are names of files, as another machine may be meant.
_DRESSED = Pattern(
    rf"\s{{0,16}}(?:(?:[-*+]|[0-9]{{1,4}}[.)]) )?(?:[0-9]{{1,7}}[:\t-])?"
    rf"(?:(?:{_DAY}[T ])?{_CLOCK}Z? (?:\| )?)?"
    r"(?:\*\*|__|`{1,2}|</?(?:p|li|td|tr|code|b|i|br)>){0,3}"
    r"(?=\[)"
)
_UNDRESSED = Pattern(r"(?:\*\*|__|`{1,2}|<(?:/?(?:p|li|td|tr|code|b|i)|br ?/?)>){0,3}$")


def message_of(line: str) -> Message | None:
    """The message in `line`; None where the line has nothing that tells the kernel's.

    A line without anything before the message (``journalctl -o cat``) is such a line too.
    """
    # Pasting adds blanks; #012 is how rsyslog writes a line's end within a message.
    line = _ESCAPE.sub("", line).strip("\r\0").rstrip().removesuffix("#012")
    return _message_of(line) or _dressed(line)


def _dressed(line: str) -> Message | None:
    begun = _DRESSED.match(line) if "[" in line[:160] else None
    if begun is None or begun.end() == 0:
        return None
    rest = line[begun.end() :]
    ends = _UNDRESSED.search(rest) if begun[0][-1:] in "*_`>" else None
    return _bracketed(rest if ends is None else rest[: ends.start()])


def _message_of(line: str) -> Message | None:
    if header := _KMSG.match(line):
        seconds = int(header[2]) / 1_000_000
        return Message(line[header.end() :], seconds) if _by_kernel(header[1]) else None
    if header := _SYSLOG.match(line):
        rest = line[header.end() :]
        host = None if header[2] == "-" else header[2]
        return replace(_timed(rest) or Message(rest), host=host) if _by_kernel(header[1]) else None
    if header := _RAW.match(line):
        if not _by_kernel(header[1]):
            return None
        return _timed(line[header.end() :]) or Message(line[header.end() :])
    if header := _DECODED.match(line):
        if header[1] != "kern":
            return None
        return _timed(line[header.end() :]) or Message(line[header.end() :])
    return _timed(line)


def _timed(line: str) -> Message | None:
    if header := _JOURNAL.match(line):
        rest = line[header.end() :]
        seconds = None if header[1] is None else float(header[1])
        # syslog files hold the kernel's own time as well.
        return replace(_bracketed(rest) or Message(rest, seconds), host=header[2])
    if bracketed := _bracketed(line):
        return bracketed
    if header := _ISO.match(line):
        return Message(line[header.end() :])
    return None


def _bracketed(line: str) -> Message | None:
    brackets = _BRACKETS.match(line)
    header = brackets or _CALLER.match(line)
    if header is None:
        return None
    seconds = float(brackets[1]) if brackets and brackets[1] is not None else None
    rest = line[header.end() :]
    # A console server's time stands before the kernel's.
    inner = _BRACKETS.match(rest) if seconds is None else None
    if inner is not None and inner[1] is not None:
        return Message(rest[inner.end() :], float(inner[1]))
    return Message(rest, seconds)


def _by_kernel(level: str) -> bool:
    return int(level) >> 3 == _KERNEL_FACILITY

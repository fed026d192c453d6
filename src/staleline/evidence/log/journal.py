# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers of kernel logs that name their fields.

``dmesg -J`` (util-linux sys-utils/dmesg.c), and ``journalctl -k`` with ``-o json``,
``json-pretty``, ``json-sse``, ``json-seq``, ``export`` and ``verbose`` (systemd's
docs/JOURNAL_EXPORT_FORMATS.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from staleline.errors import EvidenceError
from staleline.evidence.log import dmesg
from staleline.evidence.snapshot import Snapshot, UnreadMessage
from staleline.pattern import Pattern

__all__ = ["is_json", "is_read", "is_row", "parse", "parse_json"]

#: One of these stands in every entry of a journal (systemd.journal-fields(7)).
_OF_JOURNAL: Final = frozenset({"_TRANSPORT", "_BOOT_ID", "__CURSOR", "__REALTIME_TIMESTAMP"})
#: Either says who wrote an entry (systemd.journal-fields(7)); SYSLOG_FACILITY does not.
_OF_WRITER: Final = frozenset({"_TRANSPORT", "SYSLOG_IDENTIFIER"})
_DMESG_JSON = Pattern(r'\s*\{\s*"dmesg"\s*:\s*\[')
_JOURNAL_JSON = Pattern(r'\s*(?:data: )?\x1e?\{\s*"_{0,2}[A-Z][A-Z0-9_]{1,63}"\s*:')
_EXPORT = Pattern(r"__CURSOR=s=[0-9a-f]{1,32};i=[0-9a-f]+;b=.*")
_VERBOSE = Pattern(
    r"\S.{0,60} \[s=[0-9a-f]{1,32};i=[0-9a-f]+;b=([0-9a-f]{32});m=([0-9a-f]{1,16});t=[0-9a-f]+;.*\]"
)
_FIELD = Pattern(r"\s*([A-Z_][A-Z0-9_]{0,63})=(.*)")
_MICROSECONDS: Final = Pattern(r"[0-9]{1,18}")
_REBOOT: Final = "-- Reboot --"

_Entry = Mapping[str, Any]


def is_json(text: str) -> bool:
    """Is this JSON a kernel log?"""
    return _DMESG_JSON.match(text) is not None or _JOURNAL_JSON.match(text) is not None


def is_row(line: str) -> bool:
    """Is this the first line of an entry of ``-o export`` or ``-o verbose``?"""
    return _EXPORT.fullmatch(line) is not None or _VERBOSE.fullmatch(line) is not None


def is_read(line: str) -> bool:
    """Is this the field of an entry that holds its message?"""
    field = _FIELD.fullmatch(line)
    return field is not None and field[1] == "MESSAGE"


def parse_json(text: str, where: str) -> Snapshot:
    """Return what the log tells; of one that ends in the middle, what its whole entries do.

    Raises:
        EvidenceError: `text` holds no message.
    """
    begin = _DMESG_JSON.match(text)
    if begin is None:
        return _of_entries(_objects(text, 0), where)
    return dmesg.parse(_lines(map(_of_dmesg, _objects(text, begin.end()))), where)


def parse(text: str, where: str) -> Snapshot:
    """Return what the log tells.

    Raises:
        EvidenceError: `text` holds no message.
    """
    return _of_entries(_entries(text), where)


def _of_entries(entries: Iterable[_Entry], where: str) -> Snapshot:
    """What the kernel's entries tell; what may be the kernel's in others is kept apart."""
    kept = list(entries)
    unread = tuple(
        dict.fromkeys(
            UnreadMessage(where, line)
            for entry in kept
            # ``--output-fields=MESSAGE`` leaves out who wrote an entry (journalctl(1)), and a
            # program may have written it: the console of a guest of this host stands in a journal
            # as well.
            if not _OF_WRITER & entry.keys()
            for line in (_text(entry.get("MESSAGE")) or "").split("\n")
            if dmesg.is_read(f"<6>{line}")
        )
    )
    _require_one_machine(kept, where)
    lines = _lines(map(_of_journal, kept))
    if unread and not lines:
        return Snapshot(cpus=(), unread=unread)
    return replace(dmesg.parse(lines, where), unread=unread)


def _require_one_machine(entries: Iterable[_Entry], where: str) -> None:
    """Refuse a journal of several machines, as ``journalctl -m`` and systemd-journal-remote give.

    Raises:
        EvidenceError: The kernel's messages are of two.
    """
    of_kernel = [entry for entry in entries if _of_journal(entry) is not None]
    # A machine keeps its number where it is renamed.
    numbers = {entry.get("_MACHINE_ID") for entry in of_kernel} - {None}
    names = {dmesg.host_name(_text(entry.get("_HOSTNAME"))) for entry in of_kernel} - {None}
    if len(numbers or names) > 1:
        what = "holds messages of the kernels of several machines"
        raise EvidenceError(what, where=where, do="give the journal of one: journalctl -k")


def _objects(text: str, at: int) -> Iterator[_Entry]:
    """The objects in `text` one after another, up to one that is not whole."""
    decoder = json.JSONDecoder()
    while (at := text.find("{", at)) >= 0:
        try:
            entry, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            # Cut: what came before is whole, and of what is lost nothing is concluded.
            return
        yield entry


def _entries(text: str) -> Iterator[_Entry]:
    """Entries by line; the last line counts only when it is finished."""
    entry: dict[str, str] = {}
    for line in text[: text.rfind("\n") + 1].split("\n"):
        heading = _VERBOSE.fullmatch(line)
        if heading or _EXPORT.fullmatch(line):
            yield entry
            entry = {}
        if heading:
            entry["_BOOT_ID"] = heading[1]
            entry["__MONOTONIC_TIMESTAMP"] = str(int(heading[2], 16))
        elif field := _FIELD.fullmatch(line):
            # A field may stand more than once (JOURNAL_EXPORT_FORMATS.md); a message has one.
            entry.setdefault(field[1], field[2])
    yield entry


#: Boot, seconds and text of one message.
_Message = tuple[str | None, float | None, str]


def _of_dmesg(entry: _Entry) -> _Message | None:
    level, facility, seconds = entry.get("pri"), entry.get("fac", "kern"), entry.get("time")
    # What programs write into the log has another facility, in the bits above the level.
    by_kernel = facility == "kern" and not (isinstance(level, int) and level >> 3)
    text = entry.get("msg")
    if not by_kernel or not isinstance(text, str):
        return None
    return None, float(seconds) if isinstance(seconds, (int, float)) else None, text


def _of_journal(entry: _Entry) -> _Message | None:
    if not _OF_WRITER & entry.keys():
        return None
    if entry.get("_TRANSPORT", "kernel") != "kernel" or not _OF_JOURNAL & entry.keys():
        return None
    if entry.get("SYSLOG_FACILITY", "0") != "0":
        return None
    if entry.get("SYSLOG_IDENTIFIER", "kernel") != "kernel":
        return None
    text = _text(entry.get("MESSAGE"))
    if text is None:
        return None
    boot = entry.get("_BOOT_ID")
    return boot if isinstance(boot, str) else None, _seconds(entry), text


def _seconds(entry: _Entry) -> float | None:
    for name in ("_SOURCE_MONOTONIC_TIMESTAMP", "__MONOTONIC_TIMESTAMP"):
        value = entry.get(name)
        if isinstance(value, str) and _MICROSECONDS.fullmatch(value):
            return int(value) / 1_000_000
    return None


def _text(value: object) -> str | None:
    """A message; one with control characters is a list of bytes, one too long is null."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        return bytes(value).decode("utf-8", "replace")
    return None


def _lines(messages: Iterable[_Message | None]) -> str:
    lines: list[str] = []
    before: str | None = None
    for message in messages:
        if message is None:
            continue
        boot, seconds, text = message
        if before is not None and boot is not None and boot != before:
            # As journalctl puts it, so that the reader of dmesg decides what the messages prove.
            lines.append(_REBOOT)
        before = boot or before
        start = "<6>" if seconds is None else f"[{seconds:.6f}] "
        # dmesg shows each line of a message with the time before it.
        lines += (start + part for part in text.split("\n"))
    return "".join(f"{line}\n" for line in lines)

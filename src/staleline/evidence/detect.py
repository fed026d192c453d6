# SPDX-License-Identifier: GPL-2.0-or-later
"""Recognise what kind of evidence a file is by its content, and read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from staleline.errors import EvidenceError
from staleline.evidence import (
    aida64,
    cpuid_tool,
    cpuinfo,
    libcpuid_raw,
    libvirt_xml,
    snapshot_json,
)
from staleline.evidence.consistency import require_consistent
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.source import decode, read_text

__all__ = ["parse_snapshot", "read_snapshot"]

_Parse = Callable[[str, str], Snapshot]

_KNOWN = (
    "give cpuid -r output, an AIDA64 or libcpuid raw dump, libvirt CPU data, "
    "/proc/cpuinfo or a staleline snapshot"
)


def read_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Return the machine that the file `path` describes, whatever its format.

    Raises:
        EvidenceError: The file cannot be read, is of no known format, is damaged, or
            contradicts itself.
    """
    return parse_snapshot(read_text(path), os.fspath(path))


def parse_snapshot(text: str | bytes, where: str) -> Snapshot:
    """Return the machine that `text` describes; `where` names it in errors.

    Raises:
        EvidenceError: As `read_snapshot`.
    """
    if isinstance(text, bytes):
        text = decode(text, where)
    snapshot = _parser(text, where)(text, where)
    require_consistent(snapshot, where)
    return snapshot


def _parser(text: str, where: str) -> _Parse:
    start = text.lstrip()[:1]
    if start == "{":
        return snapshot_json.parse
    if start == "<":
        return libvirt_xml.parse
    for line in _lines(text):
        for row, parse in _BY_FIRST_ROW:
            if row(line):
                return parse
    raise EvidenceError("is of no known format", where=where, do=_KNOWN)


def _begins_cpuinfo(line: str) -> bool:
    name, colon, value = line.partition(":")
    return bool(colon) and name.strip() == "processor" and value.strip().isdecimal()


#: What the first telling line of a text format looks like.
_BY_FIRST_ROW: tuple[tuple[Callable[[str], object], _Parse], ...] = (
    (cpuid_tool.ROW.fullmatch, cpuid_tool.parse),
    (aida64.ROW.fullmatch, aida64.parse),
    (libcpuid_raw.ROW.fullmatch, libcpuid_raw.parse),
    (_begins_cpuinfo, cpuinfo.parse),
)


def _lines(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end].rstrip("\r")
        start = end + 1

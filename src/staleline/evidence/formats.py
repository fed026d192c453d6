# SPDX-License-Identifier: GPL-2.0-or-later
"""Every format of text, and what tells it.

A format of lines is told by the first line that only it has. A document, of JSON or XML, is told
by how it begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from staleline.evidence.cpuid import (
    aida64,
    cpuid_decoded,
    cpuid_rows,
    cpuid_tool,
    freebsd,
    hwloc,
    libcpuid_raw,
)
from staleline.evidence.hosts import snapshot_json
from staleline.evidence.log import dmesg, journal, xen
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.tools import cpuinfo, libvirt_xml, lscpu, rdmsr, snphost, virsh
from staleline.pattern import Pattern

__all__ = [
    "Format",
    "Parse",
    "begins_document",
    "format_of_line",
    "is_telling",
    "json_parser",
    "xml_parser",
]

Parse = Callable[[str, str], Snapshot]
_IsRow = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of lines.

    Attributes:
        is_row: Is this a line that tells it?
        parse: Its reader.
        opens: Is this a line that tells it even amid another format, where `is_row` might take
            it for one of its own?
    """

    is_row: _IsRow
    parse: Parse
    opens: _IsRow


def _never(_line: str) -> bool:
    return False


def _rows(is_row: _IsRow, parse: Parse, opens: _IsRow | None = None) -> Format:
    return Format(is_row, parse, is_row if opens is None else opens)


#: In this order: what a later format would read too stands before it.
_FORMATS = (
    _rows(cpuid_tool.ROW.fullmatch, cpuid_tool.parse),
    _rows(aida64.ROW.fullmatch, aida64.parse),
    _rows(libcpuid_raw.ROW.fullmatch, libcpuid_raw.parse),
    _rows(hwloc.is_row, hwloc.parse),
    _rows(cpuid_rows.is_row, cpuid_rows.parse),
    _rows(cpuid_decoded.is_row, cpuid_decoded.parse, _never),
    _rows(cpuinfo.is_row, cpuinfo.parse, Pattern(r"processor\s*: 0\s*").fullmatch),
    _rows(lscpu.is_row, lscpu.parse, Pattern("Architecture: .*").fullmatch),
    _rows(lscpu.is_other_output, lscpu.refuse, _never),
    _rows(journal.is_row, journal.parse),
    _rows(dmesg.is_row, dmesg.parse, dmesg.opens),
    _rows(xen.is_row, xen.parse),
    _rows(snphost.is_row, snphost.parse),
    _rows(freebsd.is_row, freebsd.parse, _never),
    _rows(rdmsr.is_row, rdmsr.parse, rdmsr.is_command),
)
_JSON: tuple[tuple[Callable[[str], object], Parse], ...] = (
    (lscpu.is_json, lscpu.parse_json),
    (lscpu.is_other_output, lscpu.refuse),
    (snphost.is_json, snphost.parse_json),
    (journal.is_json, journal.parse_json),
)
_BEGINS_DOCUMENT = Pattern(
    r'\s*(?:(?:data: )?\x1e?\{(?:\s*"|\s*$)|<(?:capabilities|domainCapabilities|cpudata)\b)'
)


def format_of_line(line: str, *, within_another: bool = False) -> Format | None:
    """The format that `line` tells; amid another only one that it tells for certain."""
    for format_ in _FORMATS:
        if format_.opens(line) if within_another else format_.is_row(line):
            return format_
    return None


def begins_document(line: str) -> bool:
    """May a document that is read begin with `line`?"""
    return _BEGINS_DOCUMENT.match(line) is not None


def is_telling(line: str) -> bool:
    """Is this a line that some format, or a document, begins with?"""
    known = _BEGINS_DOCUMENT.match(line) and line.strip() != "{"
    return bool(known) or format_of_line(line) is not None


def json_parser(text: str) -> Parse:
    """The reader of the JSON that `text` begins with."""
    return next((parse for is_it, parse in _JSON if is_it(text)), snapshot_json.parse)


def xml_parser(text: str) -> Parse:
    """The reader of the XML that `text` begins with."""
    return virsh.parse if virsh.is_document(text) else libvirt_xml.parse

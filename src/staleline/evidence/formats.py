# SPDX-License-Identifier: GPL-2.0-or-later
"""Every format of text, and what tells it.

A format of lines is told by the first line that only it has. A document, of JSON or XML, is told
by how it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from staleline.evidence.snapshot import Snapshot
from staleline.pattern import Pattern

__all__ = [
    "Format",
    "Parse",
    "begins_document",
    "format_of_line",
    "is_of_messages",
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
        is_log: Is it a log of the kernel, of which a file may hold several?
    """

    is_row: _IsRow
    parse: Parse
    opens: _IsRow
    is_log: bool = False


def _never(_line: str) -> bool:
    return False


def _rows(
    is_row: _IsRow, parse: Parse, opens: _IsRow | None = None, *, is_log: bool = False
) -> Format:
    return Format(is_row, parse, is_row if opens is None else opens, is_log)


# Importing the readers of all formats takes longer than reading a snapshot or a dump, so each
# is imported when a line is held against it, and those of snapshots and dumps come first.


@cache
def _cpuid_tool() -> Format:
    from staleline.evidence.cpuid import cpuid_tool

    return _rows(cpuid_tool.ROW.fullmatch, cpuid_tool.parse)


@cache
def _aida64() -> Format:
    from staleline.evidence.cpuid import aida64

    return _rows(aida64.ROW.fullmatch, aida64.parse)


@cache
def _libcpuid_raw() -> Format:
    from staleline.evidence.cpuid import libcpuid_raw

    return _rows(libcpuid_raw.ROW.fullmatch, libcpuid_raw.parse)


@cache
def _others() -> tuple[Format, ...]:
    from staleline.evidence.cpuid import cpuid_decoded, cpuid_rows, freebsd, hwloc
    from staleline.evidence.log import dmesg, journal, xen
    from staleline.evidence.tools import cpuinfo, lscpu, rdmsr, snphost

    return (
        _rows(hwloc.is_row, hwloc.parse),
        _rows(cpuid_rows.is_row, cpuid_rows.parse),
        _rows(cpuid_decoded.is_row, cpuid_decoded.parse, _never),
        _rows(cpuinfo.is_row, cpuinfo.parse, Pattern(r"processor\s*: 0\s*").fullmatch),
        _rows(lscpu.is_row, lscpu.parse, Pattern("Architecture: +(?!x86-64).*").fullmatch),
        _rows(lscpu.is_other_output, lscpu.refuse, _never),
        _rows(journal.is_row, journal.parse),
        _rows(dmesg.is_row, dmesg.parse, dmesg.opens, is_log=True),
        _rows(xen.is_row, xen.parse),
        _rows(snphost.is_row, snphost.parse),
        _rows(freebsd.is_row, freebsd.parse, _never),
        _rows(rdmsr.is_row, rdmsr.parse, rdmsr.is_command),
    )


def _formats() -> Iterator[Format]:
    """In this order: what a later format would read too stands before it."""
    yield _cpuid_tool()
    yield _aida64()
    yield _libcpuid_raw()
    yield from _others()


@cache
def _json() -> tuple[tuple[_IsRow, Parse], ...]:
    from staleline.evidence.log import journal
    from staleline.evidence.tools import lscpu, snphost

    return (
        (lscpu.is_json, lscpu.parse_json),
        (lscpu.is_other_output, lscpu.refuse),
        (snphost.is_json, snphost.parse_json),
        (journal.is_json, journal.parse_json),
    )


#: As the collector writes it, and no other JSON begins.
_SNAPSHOT = Pattern(r'\s*\{\s*"schema"\s*:')
_BEGINS_DOCUMENT = Pattern(
    r'\s*(?:(?:data: )?\x1e?\{(?:\s*"|\s*$)|<(?:capabilities|domainCapabilities|cpudata)\b)'
)


#: Headings of dumps, and remarks over them: no format is told by one, and none is imported for it.
_TELLS_NOTHING = Pattern(
    r"\s*|CPU(?: [0-9]{1,6})?:|-{4,}\[ [\w #/,.-]{1,80} \]-{4,}|(?:version|build_date)=.*"
    r"|# (?:[a-z]+:|[A-Z][a-z]+ values) .*"
)


def format_of_line(line: str, *, within_another: bool = False) -> Format | None:
    """The format that `line` tells; amid another only one that it tells for certain."""
    if _TELLS_NOTHING.fullmatch(line):
        return None
    for format_ in _formats():
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
    from staleline.evidence.hosts import snapshot_json

    if _SNAPSHOT.match(text):
        return snapshot_json.parse
    return next((parse for is_it, parse in _json() if is_it(text)), snapshot_json.parse)


def is_of_messages(parse: Parse) -> bool:
    """Does this reader of JSON take a document for each message, as many as there are?"""
    from staleline.evidence.hosts import snapshot_json

    if parse is snapshot_json.parse:
        return False
    from staleline.evidence.log import journal

    return parse is journal.parse_json


def xml_parser(text: str) -> Parse:
    """The reader of the XML that `text` begins with."""
    from staleline.evidence.tools import libvirt_xml, virsh

    return virsh.parse if virsh.is_document(text) else libvirt_xml.parse

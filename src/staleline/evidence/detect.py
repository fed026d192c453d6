# SPDX-License-Identifier: GPL-2.0-or-later
"""Recognise what kind of evidence a file is by its content, and read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from staleline.errors import EvidenceError
from staleline.evidence import (
    aida64,
    cpuid_decoded,
    cpuid_tool,
    cpuinfo,
    dmesg,
    hwloc,
    kernel_log,
    libcpuid_raw,
    libvirt_xml,
    lscpu,
    rdmsr,
    snapshot_json,
    snphost,
    trees,
    virsh,
)
from staleline.evidence.archive import read_archive
from staleline.evidence.consistency import require_consistent
from staleline.evidence.merge import merged
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.source import decode, opened, whole
from staleline.tar import is_tar

__all__ = ["parse_snapshot", "read_snapshot"]

_Parse = Callable[[str, str], Snapshot]

#: What JSON is made of takes up to thirty times its length in memory.
_JSON_MAX = 8 << 20
#: The flags of a CPU take some 2000 characters, a message of the kernel log 1000.
_LINE_MAX = 1 << 16

_KNOWN = (
    "give cpuid -r output, an AIDA64 or libcpuid raw dump, hwloc's or libvirt's CPU data, lscpu, "
    "dmesg, rdmsr or snphost output, /proc/cpuinfo, a sosreport or a staleline snapshot"
)


def read_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Return the machine that the file or directory `path` describes, whatever its format.

    Raises:
        EvidenceError: It cannot be read, is of no known format, is damaged, or contradicts
            itself.
    """
    where = os.fspath(path)
    return _whole(_read(where), where)


def parse_snapshot(text: str | bytes, where: str) -> Snapshot:
    """Return the machine that `text` describes; `where` names it in errors.

    Raises:
        EvidenceError: As `read_snapshot`.
    """
    return _whole(_parse_text(text, where), where)


def _whole(snapshot: Snapshot, where: str) -> Snapshot:
    machine = kernel_log.with_state(snapshot)
    require_consistent(machine, where)
    return machine


def _read(where: str) -> Snapshot:
    if os.path.isdir(where):
        if hwloc.is_directory(where):
            return hwloc.read_directory(where)
        return trees.read_directory(where)
    with opened(where) as stream:
        if is_tar(stream.peek(512)):
            return _of_archive(read_archive(stream), where)
        data = whole(stream)
    return _parse_text(data, where)


def _parse_text(text: str | bytes, where: str) -> Snapshot:
    if isinstance(text, bytes):
        text = decode(text, where)
    if len(text) > _JSON_MAX and text.lstrip()[:1] == "{":
        what = f"is JSON of more than {_JSON_MAX >> 20} MiB, which no snapshot has"
        raise EvidenceError(what, where=where, do="give one snapshot per machine")
    parse = _parser(text)
    if parse is None:
        raise EvidenceError("is of no known format", where=where, do=_KNOWN)
    if text.lstrip()[:1] not in ("{", "<"):
        _require_lines(text, where)
    return parse(text, where)


def _require_lines(text: str, where: str) -> None:
    for number, line in enumerate(_lines(text), 1):
        if len(line) > _LINE_MAX:
            what = f"has a line of {len(line)} characters, which no dump or log has"
            raise EvidenceError(what, where=f"{where}:{number}", do="copy the file whole again")


def _of_archive(files: Mapping[str, bytes], where: str) -> Snapshot:
    tree = trees.layout_of(files, where)
    if tree is not None:
        return trees.read_tree(tree, where)
    found = list(_loose(dict(_texts(files)), where))
    if not found:
        raise EvidenceError("is an archive without evidence", where=where, do=_KNOWN)
    return merged(found, where)


def _loose(texts: Mapping[str, str], where: str) -> Iterator[Snapshot]:
    """The evidence in files that are laid out as nothing, but for hwloc's, a file a CPU."""
    of_hwloc = {
        name: text
        for name, text in texts.items()
        if hwloc.is_member(name) and hwloc.is_row(text.partition("\n")[0])
    }
    if of_hwloc:
        yield hwloc.parse_files(of_hwloc, where)
    for name, text in texts.items():
        if name not in of_hwloc and (parse := _parser(text)) is not None:
            if text.lstrip()[:1] not in ("{", "<"):
                _require_lines(text, f"{where}:{name}")
            yield parse(text, f"{where}:{name}")


def _texts(files: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    for name, data in sorted(files.items()):
        if data.strip() and b"\0" not in data:
            yield name, decode(data, name)


def _parser(text: str) -> _Parse | None:
    start = text.lstrip()[:1]
    if start == "{":
        return next((parse for is_it, parse in _BY_JSON if is_it(text)), snapshot_json.parse)
    # Lines of a raw kernel log begin with their level, as in <6>.
    if start == "<" and not dmesg.is_row(text.lstrip().partition("\n")[0]):
        return virsh.parse if virsh.is_document(text) else libvirt_xml.parse
    for line in _lines(text):
        for row, parse in _BY_FIRST_ROW:
            if row(line):
                return parse
    return rdmsr.refuse_bare if rdmsr.is_bare(text) else None


_BY_JSON: tuple[tuple[Callable[[str], object], _Parse], ...] = (
    (lscpu.is_json, lscpu.parse_json),
    (lscpu.is_other_output, lscpu.refuse),
    (snphost.is_json, snphost.parse_json),
)
#: What the first telling line of a text format looks like.
_BY_FIRST_ROW: tuple[tuple[Callable[[str], object], _Parse], ...] = (
    (cpuid_tool.ROW.fullmatch, cpuid_tool.parse),
    (aida64.ROW.fullmatch, aida64.parse),
    (libcpuid_raw.ROW.fullmatch, libcpuid_raw.parse),
    (hwloc.is_row, hwloc.parse),
    (cpuid_decoded.is_row, cpuid_decoded.parse),
    (cpuinfo.is_row, cpuinfo.parse),
    (lscpu.is_row, lscpu.parse),
    (lscpu.is_other_output, lscpu.refuse),
    (dmesg.is_row, dmesg.parse),
    (snphost.is_row, snphost.parse),
    (rdmsr.is_row, rdmsr.parse),
)


def _lines(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end].rstrip("\r")
        start = end + 1

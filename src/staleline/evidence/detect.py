# SPDX-License-Identifier: GPL-2.0-or-later
"""Recognise what kind of evidence a file is by its content, and read it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from io import BytesIO

from staleline.errors import EvidenceError
from staleline.evidence.consistency import require_consistent
from staleline.evidence.cpuid import hwloc
from staleline.evidence.formats import is_telling
from staleline.evidence.hosts import trees
from staleline.evidence.hosts.archive import read_archive
from staleline.evidence.hosts.merge import merged
from staleline.evidence.log import journal, kernel_log
from staleline.evidence.pasted import foreign
from staleline.evidence.pasted.quoting import plain_characters, unquoted
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.source import decode, opened_evidence, whole
from staleline.evidence.tools import rdmsr
from staleline.evidence.transcript import JSON_MAX, Excerpt, begins_as_document, parts
from staleline.tar import is_tar
from staleline.unpacking import Bounds, Complaint, UnpackedStream, compression_of

__all__ = ["parse_snapshot", "read_snapshot", "read_stream"]

#: What a member of an archive may unpack to.
_OF_MEMBER = Bounds(most=16 << 20, free=1 << 20)
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


def read_stream(stream: UnpackedStream, where: str) -> Snapshot:
    """Return the machine that a file or an archive describes, read from a stream.

    Raises:
        EvidenceError: As `read_snapshot`.
    """
    return _whole(_of_stream(stream, where), where)


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
            return hwloc.read_hwloc_directory(where)
        return trees.read_directory(where)
    with opened_evidence(where) as stream:
        return _of_stream(stream, where)


def _of_stream(stream: UnpackedStream, where: str) -> Snapshot:
    if is_tar(stream.peek(512)):
        return _of_archive(read_archive(stream), where)
    return _parse_text(whole(stream), where)


def _parse_text(text: str | bytes, where: str) -> Snapshot:
    if isinstance(text, bytes):
        text = decode(text, where)
    machine = _machine(text, where)
    if machine is None:
        raise _unknown(text, where)
    return machine


def _unknown(text: str, where: str) -> EvidenceError:
    if rdmsr.is_bare(text):
        rdmsr.refuse_bare(text, where)
    return foreign.refused(text, where) or EvidenceError(
        "is of no known format", where=where, do=_KNOWN
    )


def _machine(text: str, where: str) -> Snapshot | None:
    """The machine that all outputs in `text` are of; None where it holds none."""
    foreign.refuse_markup(text, where)
    is_json = text.lstrip()[:1] == "{" and begins_as_document(text)
    text = plain_characters(text, is_json=is_json)
    if not begins_as_document(text):
        text = unquoted(text, where, is_telling)
    outputs = parts(text, where)
    if not outputs:
        return None
    for output in outputs:
        _require_bounds(output, where)
    return merged([output.parse(output.text, where) for output in outputs], where)


def _require_bounds(output: Excerpt, where: str) -> None:
    if not output.document:
        _require_lines(output.text, where)
    elif output.parse is not journal.parse_json and len(output.text) > JSON_MAX:
        what = f"is JSON of more than {JSON_MAX >> 20} MiB, which no snapshot has"
        raise EvidenceError(what, where=where, do="give one snapshot per machine")


def _require_lines(text: str, where: str) -> None:
    if len(text) <= _LINE_MAX:
        return
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LINE_MAX:
            what = f"has a line of {len(line)} characters, which no dump or log has"
            raise EvidenceError(what, where=f"{where}:{number}", do="copy the file whole again")


def _of_archive(files: Mapping[str, bytes], where: str) -> Snapshot:
    tree = trees.layout_of(files, where)
    if tree is not None:
        return trees.read_tree(tree, where)
    found = list(_loose(dict(_texts(files, where)), where))
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
        if name not in of_hwloc and (machine := _machine(text, f"{where}:{name}")) is not None:
            yield machine


def _texts(files: Mapping[str, bytes], where: str) -> Iterator[tuple[str, str]]:
    """The members that are text, compressed or not, in whatever encoding a single file may have.

    Raises:
        EvidenceError: One is compressed and damaged, or is an archive of its own: what it says
            may be of this machine, and is not to be left out unseen.
    """
    for name, data in sorted(files.items()):
        place = f"{where}:{name}"
        text = data
        if compression_of(data) is not None:
            complaint = Complaint(EvidenceError, place, "compress it again, or leave it out")
            stream = UnpackedStream(BytesIO(data).read, _OF_MEMBER, complaint)
            text = stream.read(_OF_MEMBER.most)
        if is_tar(text[:512]):
            do = "unpack it and give its directory, or leave it out"
            raise EvidenceError("is an archive within an archive", where=place, do=do)
        try:
            yield name, decode(text, name)
        except EvidenceError:
            continue

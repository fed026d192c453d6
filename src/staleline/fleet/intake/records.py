# SPDX-License-Identifier: GPL-2.0-or-later
"""One record for each machine that an input of a fleet tells of.

A file is one machine; a tar archive is one if it is laid out as a host, and else one per member;
of lines of JSON and of Parquet each row is one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import IO, Any

from staleline.errors import EvidenceError, StalelineError
from staleline.evidence.cpuid import hwloc
from staleline.evidence.detect import read_snapshot, read_stream
from staleline.evidence.hosts import snapshot_json
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.hosts.trees import layout_of
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.source import MAX_BYTES, decode, opened_evidence, whole
from staleline.evidence.staleline_collect import document_text
from staleline.fleet.intake.sources import (
    HEAD,
    IN_SCHEMA,
    LISTED,
    PARQUET,
    UNLISTED,
    FleetInput,
    is_lines,
)
from staleline.printable import printable
from staleline.tar import is_tar, tar_members
from staleline.unpacking import Bounds, Complaint, UnpackedStream, compression_of

__all__ = ["Record", "records"]

_DO_WHOLE = "collect it again, and check that it was copied whole"
_DO_ROWS = "give rows with a column `snapshot` that holds what staleline collect writes"
#: Archives and tables of a whole fleet.
_BOUNDS = Bounds(most=1 << 40, free=512 << 20, alone=True)
_OF_MEMBER = Bounds(most=64 << 20, free=1 << 20, alone=True)
_READ = 1 << 17


@dataclass(frozen=True, slots=True)
class Record:
    """One machine's evidence, or why there is none.

    Attributes:
        place: In its file: a member, a line, a row; empty for the whole.
        digest: Of its bytes, as 32 hexadecimal digits.
        text: What it says.
        snapshot: What it says, if it had to be read to be told apart.
        error: Why there is neither.
    """

    place: str
    digest: str
    text: str | None = None
    snapshot: Snapshot | None = None
    error: StalelineError | None = None


def records(input_: FleetInput) -> Iterator[Record]:
    """Every machine in an input; what is wrong with the input itself is a record as well."""
    empty = True
    try:
        for record in _records(input_):
            empty = False
            yield record
        # A piece may lie within a line. What is whole and holds nothing is as little a fleet as
        # what is damaged.
        if empty and input_.piece is None and not input_.modified.startswith(LISTED):
            raise EvidenceError("holds no snapshot", where=input_.location, do=_DO_WHOLE)
    except (StalelineError, RecursionError) as error:
        yield Record("", "", error=_error(error, input_.location))


def _records(input_: FleetInput) -> Iterator[Record]:
    if input_.modified.startswith(UNLISTED):
        raise _unlisted(input_.location)
    if input_.modified.startswith(LISTED):
        return
    if os.path.isdir(input_.location):
        yield _of_snapshot(read_snapshot(input_.location))
    elif input_.piece is not None and not _is_parquet(input_.location):
        yield from _piece_of_lines(input_.location, input_.piece)
    else:
        yield from _of_file(input_)


def _unlisted(path: str) -> EvidenceError:
    what = "could not be listed when it was added"
    try:
        os.scandir(path).close()
    except OSError as error:
        what = f"cannot be listed: {error.strerror}"
    do = "make it readable, or run as a user who may read it, and add it again"
    return EvidenceError(what, where=path, do=do)


def _error(error: Exception, where: str) -> StalelineError:
    if isinstance(error, StalelineError):
        return error
    return EvidenceError("nests too deeply", where=where, do=_DO_WHOLE)


def _of_snapshot(snapshot: Snapshot) -> Record:
    return Record("", _digest(snapshot_text(snapshot).encode()), snapshot=snapshot)


def _of_file(input_: FleetInput) -> Iterator[Record]:
    where = input_.location
    with _opened(where) as stream:
        head = stream.peek(HEAD)
        if is_tar(head):
            yield from _of_tar(where)
        elif head.startswith(PARQUET):
            yield from _of_parquet(input_)
        elif is_lines(head):
            yield from _of_lines(_lines_of(stream))
        else:
            yield _of_bytes("", whole(stream), where)


@contextmanager
def _opened(where: str) -> Iterator[UnpackedStream]:
    if "://" not in where:
        with opened_evidence(where) as stream:
            yield stream
        return
    with _remote_file(where) as file:
        complaint = Complaint(EvidenceError, where, _DO_WHOLE)
        yield UnpackedStream(partial(file.read, _READ), _BOUNDS, complaint)


@contextmanager
def _remote_file(where: str) -> Iterator[IO[bytes]]:
    import fsspec

    try:
        file = fsspec.open(where, "rb").open()
    except Exception as error:
        what = f"cannot be read: {printable(str(error))[:200]}"
        raise EvidenceError(what, where=where, do="check that it is still there") from error
    with file:
        yield file


def _of_bytes(place: str, content: bytes, where: str) -> Record:
    digest = _digest(content)
    try:
        return Record(place, digest, text=decode(content, where))
    except StalelineError as error:
        return Record(place, digest, error=error)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


# ---- archives ------------------------------------------------------------------------------


def _of_tar(where: str) -> Iterator[Record]:
    names: list[str] = []
    damaged: StalelineError | None = None
    try:
        with _opened(where) as stream:
            names.extend(_name(member.name) for member in tar_members(stream) if member.regular)
    except StalelineError as error:
        damaged = error
    if not names:
        raise damaged or EvidenceError("is an archive without files", where=where, do=_DO_WHOLE)
    of_one_host = any(map(hwloc.is_member, names)) or layout_of(dict.fromkeys(names, b""), where)
    if of_one_host and damaged is not None:
        raise damaged
    # Once more from the start, as a stream has no way back.
    with _opened(where) as stream:
        if of_one_host:
            yield _of_snapshot(read_stream(stream, where))
            return
        members = _of_members(stream, where)
        # Before its damage an archive may look otherwise laid out than it is. A snapshot of ours is
        # a whole host wherever it lies.
        yield from members if damaged is None else filter(_is_snapshot_of_ours, members)
        if damaged is not None:
            raise damaged


def _is_snapshot_of_ours(record: Record) -> bool:
    text = record.text or ""
    return text.startswith("{") and IN_SCHEMA.decode() in text[:200]


def _name(name: bytes) -> str:
    return os.path.normpath(name.decode("utf-8", "surrogateescape"))


def _of_members(stream: UnpackedStream, where: str) -> Iterator[Record]:
    for member in tar_members(stream):
        if not member.regular:
            continue
        place = printable(_name(member.name))
        at = f"{where}:{place}"
        if member.size > MAX_BYTES:
            what = f"is larger than {MAX_BYTES >> 20} MiB, which no dump or snapshot is"
            yield Record(place, "", error=EvidenceError(what, where=at, do=_DO_WHOLE))
            continue
        content = stream.read(member.size)
        if len(content) < member.size:
            yield Record(place, "", error=EvidenceError("is cut short", where=at, do=_DO_WHOLE))
            # Where the next member begins is not known any more.
            return
        yield _of_member(place, content, at)


def _of_member(place: str, content: bytes, at: str) -> Record:
    if compression_of(content) is None and not is_tar(content[:512]):
        return _of_bytes(place, content, at)
    complaint = Complaint(EvidenceError, at, _DO_WHOLE)
    try:
        packed = UnpackedStream(BytesIO(content).read, _OF_MEMBER, complaint)
        return Record(place, _digest(content), snapshot=read_stream(packed, at))
    except StalelineError as error:
        return Record(place, _digest(content), error=error)


# ---- lines and rows ------------------------------------------------------------------------


def _lines_of(stream: UnpackedStream) -> Iterator[bytes]:
    rest = b""
    while piece := stream.read(1 << 20):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > MAX_BYTES:
            raise stream.complaint.of(f"has a line of more than {MAX_BYTES >> 20} MiB")
    yield rest


def _of_lines(lines: Iterator[bytes]) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _of_line(f"line {number}", line)


def _of_line(place: str, line: bytes) -> Record:
    return Record(place, _digest(line), text=_laid_out(line.decode("utf-8", "replace")))


def _laid_out(line: str) -> str:
    """The same document as the collector lays it out; as it is, if it is no such document."""
    try:
        document = json.loads(line, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        return line
    if not isinstance(document, dict) or document.get("schema") != snapshot_json.SCHEMA:
        return line
    # Laid out so, it is looked up among the profiles before anything is parsed.
    return document_text(document)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    # Which of the two counts is not decided here: read as it is, the document is refused.
    if len(document) != len(pairs):
        raise ValueError("a field twice")
    return document


def _piece_of_lines(path: str, piece: tuple[int, int]) -> Iterator[Record]:
    """The lines that begin in a piece, by the byte at which they begin."""
    start, stop = piece
    with open(path, "rb") as file:
        # The line end before a line that begins right at `start` is the one that is read away.
        if start:
            file.seek(start - 1)
            file.readline(MAX_BYTES)
        while (at := file.tell()) < stop and (line := file.readline(MAX_BYTES)):
            if line.strip():
                yield _of_line(f"byte {at}", line.rstrip(b"\n"))


def _is_parquet(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def _of_parquet(input_: FleetInput) -> Iterator[Record]:
    import pyarrow.parquet as pq

    where = input_.location
    with _remote_file(where) if "://" in where else open(where, "rb") as file:
        try:
            table = pq.ParquetFile(file)
            if "snapshot" not in table.schema_arrow.names:
                raise EvidenceError(
                    "is Parquet without a column `snapshot`", where=where, do=_DO_ROWS
                )
            yield from _of_rows(table, input_.piece)
        except (OSError, ValueError) as error:
            what = f"is no Parquet that can be read: {printable(str(error))[:200]}"
            raise EvidenceError(what, where=where, do=_DO_WHOLE) from error


def _of_rows(table: Any, piece: tuple[int, int] | None) -> Iterator[Record]:
    groups = range(*(piece or (0, table.num_row_groups)))
    first = sum(table.metadata.row_group(group).num_rows for group in range(groups.start))
    row = first
    for batch in table.iter_batches(256, row_groups=list(groups), columns=["snapshot"]):
        for value in batch.column(0).to_pylist():
            row += 1
            yield _of_cell(f"row {row}", value)


def _of_cell(place: str, value: object) -> Record:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if not isinstance(value, bytes):
        return Record(place, "", error=EvidenceError("holds no snapshot", do=_DO_ROWS))
    if value.startswith(b"{") and b"\n" not in value.strip():
        return _of_line(place, value)
    return _of_bytes(place, value, place)

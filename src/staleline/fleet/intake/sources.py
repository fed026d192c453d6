# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a fleet's evidence lies: files, hosts' directories, and pieces of large files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from staleline.errors import UsageError
from staleline.evidence.cpuid import hwloc
from staleline.evidence.hosts.trees import is_host_directory
from staleline.printable import printable
from staleline.unpacking import compression_of

__all__ = ["HEAD", "IN_SCHEMA", "LISTED", "PARQUET", "UNLISTED", "FleetInput", "is_lines", "listed"]

HEAD = 1 << 12
PARQUET = b"PAR1"
#: Lines of JSON without compression, and rows of Parquet, are read by several processes.
_PIECE = 64 << 20
IN_SCHEMA = b'"staleline/snapshot/'
#: In place of when a folder was changed: it cannot be listed, or could not be before and can now.
UNLISTED, LISTED = "not listed, ", "listed, "


@dataclass(frozen=True, slots=True)
class FleetInput:
    """A file, a host's directory or a piece of a large file.

    Attributes:
        location: A path or an address.
        bytes: How large it is; 0 for a directory.
        modified: When it was changed, in the words of whatever keeps it; of a directory a digest
            of when each of its files was.
        piece: From where on, and up to where: bytes of lines of JSON, row groups of Parquet.
    """

    location: str
    bytes: int = 0
    modified: str = ""
    piece: tuple[int, int] | None = None


def listed(sources: Sequence[str]) -> Iterator[FleetInput]:
    """Every input of the sources, in an order that does not depend on the file system.

    Raises:
        UsageError: One is not there, or holds no file.
    """
    for source in sources:
        if "://" in source:
            yield from _remote(source)
        elif os.path.isdir(source):
            inputs = _directory(source)
            first = next(inputs, None)
            if first is None:
                raise _empty(source)
            yield from chain([first], inputs)
        else:
            yield from _local(source)


def _directory(path: str) -> Iterator[FleetInput]:
    if is_host_directory(path) or hwloc.is_directory(path):
        yield FleetInput(path, modified=_last_changes(path))
        return
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError:  # nobody knows how many hosts lie there; it is named as what cannot be read
        yield FleetInput(path, modified=f"{UNLISTED}{os.stat(path).st_ctime_ns}")
        return
    for entry in entries:
        # Links are not followed into folders: one may lead in a circle.
        if entry.is_dir(follow_symlinks=False):
            yield from _directory(entry.path)
        else:
            yield from _local(entry.path)


def _last_changes(path: str) -> str:
    """What differs once any file of a host's directory does; the directory's own time does not."""
    told = hashlib.sha256()
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = os.path.join(folder, name)
            try:
                status = os.stat(file, follow_symlinks=False)
            except OSError:
                continue
            place = os.fsencode(os.path.relpath(file, path))
            told.update(b"%s\0%d %d\0" % (place, status.st_size, status.st_mtime_ns))
    return told.hexdigest()[:32]


def _local(path: str) -> Iterator[FleetInput]:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        if os.path.islink(path):  # it leads nowhere, and is named as what cannot be read
            yield FleetInput(path)
            return
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"cannot be read: {reason}", where=printable(path), do="name a file or a directory"
        ) from error
    modified = str(status.st_mtime_ns)
    for piece in _pieces(path, status.st_size) if os.path.isfile(path) else [None]:
        yield FleetInput(path, status.st_size, modified, piece)


def _pieces(path: str, size: int) -> list[tuple[int, int] | None]:
    """Pieces of a file that can be read from its middle; else the whole."""
    if size <= _PIECE:
        return [None]
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError:
        return [None]
    if head.startswith(PARQUET):
        return list(_row_groups(path)) or [None]
    if compression_of(head) is not None or not is_lines(head):
        return [None]
    return [(start, min(start + _PIECE, size)) for start in range(0, size, _PIECE)]


def _row_groups(path: str) -> Iterator[tuple[int, int]]:
    import pyarrow.parquet as pq

    try:
        groups = pq.ParquetFile(path).num_row_groups
    except (OSError, ValueError):
        return
    yield from ((group, group + 1) for group in range(groups))


def _remote(source: str) -> Iterator[FleetInput]:
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(source)
        details: dict[str, Any] = files.find(path, detail=True)
    except Exception as error:  # what each file system raises is its own
        raise UsageError(
            f"cannot be listed: {printable(str(error))[:200]}",
            where=printable(source),
            do="check the address, and that its file system for fsspec is installed",
        ) from error
    if not details:
        raise _empty(source)
    for name in sorted(details):
        about = details[name]
        changed = about.get("mtime") or about.get("LastModified") or about.get("ETag") or ""
        yield FleetInput(files.unstrip_protocol(name), int(about.get("size") or 0), str(changed))


def _empty(source: str) -> UsageError:
    return UsageError("holds no file", where=printable(source), do="name where the evidence lies")


def is_lines(head: bytes) -> bool:
    """Is each line a snapshot? One snapshot alone has a line for each field."""
    first, newline, rest = head.partition(b"\n")
    if not first.startswith(b"{") or IN_SCHEMA not in first[:200]:
        return False
    return not newline or rest.lstrip()[:1] in (b"{", b"")

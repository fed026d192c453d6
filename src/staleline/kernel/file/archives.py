# SPDX-License-Identifier: GPL-2.0-or-later
"""The two archive formats inside packages, tar and cpio, read as a stream.

Layouts: cpio(5), "New ASCII Format"; rpm's own, which leaves to the package's header what that has
of each file (rpm lib/cpio.c, rpmcpioStrippedHeaderWrite()): for large files, and in format 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from staleline import tar
from staleline.errors import KernelImageError, StalelineError
from staleline.kernel.file.source import ByteSource
from staleline.unpacking import Bounds, Complaint, UnpackedStream

__all__ = [
    "MAX_STREAM",
    "Member",
    "Package",
    "archive_members",
    "cpio_members",
    "damaged_package",
    "relative",
    "unpacked_part",
]

MAX_STREAM: Final = 4 << 30
"""Most bytes a part of a package may unpack to; Debian's largest unpack to about 1 GiB."""
_READ: Final = 1 << 17

_LONGEST_NAME: Final = 4096  # PATH_MAX
_CPIO_HEADER: Final = 110
_CPIO_MAGICS: Final = (b"070701", b"070702")
_STRIPPED: Final = b"07070X"
_STRIPPED_HEADER: Final = 14
_CPIO_END: Final = "TRAILER!!!"
_S_IFMT, _S_IFREG = 0o170000, 0o100000


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive; `name` without leading ``./`` or ``/``, `size` in bytes.

    Its content is what the stream reads next.
    """

    name: str
    size: int
    regular: bool


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was opened.

    Attributes:
        stream: Its files, as an archive.
        members: Reads that archive.
        files: Names as its own list has them; None if it has none.
        name: What it is called; None if it does not say so.
        version: Its version, as its own kind of package manager shows it; likewise.
    """

    stream: UnpackedStream
    members: Callable[[UnpackedStream], Iterator[Member]]
    files: tuple[str, ...] | None
    name: str | None = None
    version: str | None = None


def damaged_package(what: str, source: ByteSource, offset: int) -> KernelImageError:
    """What to say of a package that breaks the rules of its format."""
    return KernelImageError(
        f"damaged package: {what}",
        where=f"{source.where}+{offset:#x}",
        do="it is truncated or corrupt, copy it again",
    )


def unpacked_part(
    source: ByteSource, start: int, size: int, *, limit: int = MAX_STREAM
) -> UnpackedStream:
    """What a part of a package unpacks to.

    Args:
        source: The package.
        start: Offset of the first compressed byte.
        size: Number of compressed bytes.
        limit: Most bytes that may come out.
    """
    complaint = Complaint(
        KernelImageError,
        f"{source.where}+{start:#x}",
        "the file is truncated, corrupt or no kernel package, copy it again",
    )
    return UnpackedStream(_reader(source, start, size), Bounds(limit), complaint)


def _reader(source: ByteSource, start: int, size: int) -> Callable[[], bytes]:
    parts = range(start, start + size, _READ)
    pieces = (bytes(source.read(at, min(_READ, start + size - at))) for at in parts)
    return lambda: next(pieces, b"")


def archive_members(stream: UnpackedStream) -> Iterator[Member]:
    """All members in order.

    Raises:
        KernelImageError: It is no tar archive, or ends too early.
    """
    for member in tar.tar_members(stream):
        yield Member(relative(member.name), member.size, member.regular)


def cpio_members(stream: UnpackedStream, listed: Sequence[Member] = ()) -> Iterator[Member]:
    """All members in order.

    Of a file with several hard links only the last one has the content; the others are
    members of size 0.

    Args:
        stream: The archive.
        listed: The files in the order of the package's header, by which a member may go.

    Raises:
        KernelImageError: It is no cpio archive of this format, or ends too early.
    """
    while True:
        header = stream.read(_STRIPPED_HEADER)
        if header.startswith(_STRIPPED):
            yield from _stripped(stream, header, listed)
            continue
        header += stream.read(_CPIO_HEADER - len(header))
        if len(header) < _CPIO_HEADER or not header.startswith(_CPIO_MAGICS):
            raise _damaged_cpio(stream)
        try:
            fields = [int(header[at : at + 8], 16) for at in range(6, _CPIO_HEADER, 8)]
        except ValueError as error:
            raise _damaged_cpio(stream) from error
        mode, size, name_size = fields[1], fields[6], fields[11]
        if name_size > _LONGEST_NAME:
            raise _damaged_cpio(stream)
        name = stream.read(name_size).rstrip(b"\0")
        member = Member(relative(name), size, mode & _S_IFMT == _S_IFREG)
        if member.name == _CPIO_END:
            return
        yield from _padded(stream, member)


def _stripped(stream: UnpackedStream, header: bytes, listed: Sequence[Member]) -> Iterator[Member]:
    """The member that a header names by its number among the package's files."""
    try:
        member = listed[int(header[len(_STRIPPED) :], 16)]
    except (ValueError, IndexError) as error:
        raise _damaged_cpio(stream) from error
    yield from _padded(stream, member)


def _padded(stream: UnpackedStream, member: Member) -> Iterator[Member]:
    """A member, with what fills header and content up to four bytes each taken away."""
    stream.skip_to(-(-stream.position // 4) * 4)
    end = stream.position + -(-member.size // 4) * 4
    yield member
    stream.skip_to(end)  # whether it was read, or in part, or not


def relative(name: bytes) -> str:
    """A file's name without leading ``./`` or ``/``."""
    return name.decode("utf-8", "replace").removeprefix(".").lstrip("/")


def _damaged_cpio(stream: UnpackedStream) -> StalelineError:
    return stream.complaint.of(f"damaged cpio archive at unpacked offset {stream.position:#x}")

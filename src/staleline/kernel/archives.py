# SPDX-License-Identifier: GPL-2.0-or-later
"""The two archive formats inside packages, tar and cpio, read as a stream.

Not with `tarfile`: it reads a long name or a pax header into memory whatever size the
archive claims for it, so that a small package could ask for gigabytes.

Layouts: tar(5) of libarchive (ustar, GNU long names, pax), and cpio(5), "New ASCII Format".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from staleline.errors import KernelImageError
from staleline.kernel.source import ByteSource
from staleline.kernel.streams import UnpackedStream

__all__ = ["Member", "Package", "cpio_members", "damaged_package", "relative", "tar_members"]

_BLOCK: Final = 512
_LONGEST_NAME: Final = 4096  # PATH_MAX
_LONGEST_PAX: Final = 1 << 16
_PAX_PATH: Final = re.compile(rb"\d+ path=([^\n]*)\n")
_CPIO_HEADER: Final = 110
_CPIO_MAGICS: Final = (b"070701", b"070702")
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
    """

    stream: UnpackedStream
    members: Callable[[UnpackedStream], Iterator[Member]]
    files: tuple[str, ...] | None


def damaged_package(what: str, source: ByteSource, offset: int) -> KernelImageError:
    """What to say of a package that breaks the rules of its format."""
    return KernelImageError(
        f"damaged package: {what}",
        where=f"{source.where}+{offset:#x}",
        do="it is truncated or corrupt, copy it again",
    )


def tar_members(stream: UnpackedStream) -> Iterator[Member]:
    """All members in order.

    Raises:
        KernelImageError: It is no tar archive, or ends too early.
    """
    long_name = None
    while any(header := stream.read(_BLOCK)):
        kind, size = _tar_header(header, stream)
        end = stream.position + -(-size // _BLOCK) * _BLOCK
        if kind in (b"L", b"x"):
            long_name = _tar_name(stream, kind, size) or long_name
        elif kind != b"g":
            name = long_name or _ustar_name(header)
            long_name = None
            yield Member(relative(name), size, kind in (b"0", b"\0"))
        stream.skip_to(end)
    if not header:  # it ends with blocks of zeros
        raise _damaged_archive("tar", stream)


def _tar_header(header: bytes, stream: UnpackedStream) -> tuple[bytes, int]:
    """Type and size of a member."""
    size = header[124:136].strip(b" \0")
    if len(header) < _BLOCK or header[257:262] != b"ustar" or not re.fullmatch(b"[0-7]*", size):
        raise _damaged_archive("tar", stream)
    return header[156:157], int(size or b"0", 8)


def _tar_name(stream: UnpackedStream, kind: bytes, size: int) -> bytes | None:
    """The name that a GNU long name or a pax header gives to the next member."""
    if size > (_LONGEST_NAME if kind == b"L" else _LONGEST_PAX):
        raise _damaged_archive("tar", stream)
    content = stream.read(size)
    if kind == b"L":
        return content.rstrip(b"\0")
    found = _PAX_PATH.search(content)
    return found[1] if found else None


def _ustar_name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    posix = header[257:263] == b"ustar\0"  # GNU's own format has other fields there
    return prefix + b"/" + name if posix and prefix else name


def cpio_members(stream: UnpackedStream) -> Iterator[Member]:
    """All members in order.

    Of a file with several hard links only the last one has the content; the others are
    members of size 0.

    Raises:
        KernelImageError: It is no cpio archive of this format, or ends too early.
    """
    while True:
        header = stream.read(_CPIO_HEADER)
        if len(header) < _CPIO_HEADER or not header.startswith(_CPIO_MAGICS):
            raise _damaged_archive("cpio", stream)
        try:
            fields = [int(header[at : at + 8], 16) for at in range(6, _CPIO_HEADER, 8)]
        except ValueError as error:
            raise _damaged_archive("cpio", stream) from error
        mode, size, name_size = fields[1], fields[6], fields[11]
        if name_size > _LONGEST_NAME:
            raise _damaged_archive("cpio", stream)
        name = stream.read(name_size).rstrip(b"\0")
        member = Member(relative(name), size, mode & _S_IFMT == _S_IFREG)
        if member.name == _CPIO_END:
            return
        stream.skip_to(-(-stream.position // 4) * 4)
        end = stream.position + -(-size // 4) * 4
        yield member
        stream.skip_to(end)


def relative(name: bytes) -> str:
    """A file's name without leading ``./`` or ``/``."""
    return name.decode("utf-8", "replace").removeprefix(".").lstrip("/")


def _damaged_archive(kind: str, stream: UnpackedStream) -> KernelImageError:
    return KernelImageError(
        f"damaged {kind} archive at unpacked offset {stream.position:#x}",
        where=stream.where,
        do="the package is truncated or corrupt, copy it again",
    )

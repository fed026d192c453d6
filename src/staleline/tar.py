# SPDX-License-Identifier: GPL-2.0-or-later
"""Tar archives, read as a stream: what a member is called, how large it is, where it leads.

Layouts: tar(5) of libarchive (ustar, GNU long names and sparse files, pax).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from staleline.errors import StalelineError
from staleline.unpacking import UnpackedStream

__all__ = ["TarMember", "is_tar", "tar_members"]

_BLOCK: Final = 512
_REST: Final = 1 << 20
_LONGEST_NAME: Final = 4096  # PATH_MAX
_LONGEST_PAX: Final = 1 << 16
_PAX_RECORD: Final = rb"\d+ (path|linkpath|size|GNU\.sparse\.[a-z]+)=([^\n]*)\n"
_LONGEST_SIZE: Final = 1 << 62
_CHECKSUM: Final = slice(148, 156)


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member of an archive, whose content is what the stream reads next.

    Attributes:
        name: As in the archive.
        size: Bytes of content in the archive.
        kind: Its type, as one byte of the header.
        link: What a link leads to.
        sparse: Are holes left out of the content?
    """

    name: bytes
    size: int
    kind: bytes
    link: bytes = b""
    sparse: bool = False

    @property
    def regular(self) -> bool:
        """Is the content that of a file?"""
        return self.kind in (b"0", b"\0", b"7") and not self.sparse


def is_tar(start: bytes) -> bool:
    """Do the first 512 bytes of a file begin a tar archive (POSIX or GNU)?"""
    return start[257:262] == b"ustar"


def tar_members(stream: UnpackedStream) -> Iterator[TarMember]:
    """All members in order.

    Raises:
        StalelineError: As the stream does; it is no tar archive, ends too early, or is not all
            there is.
    """
    said: dict[bytes, bytes] = {}  # of the next member, by headers before it; the last one counts
    while any(header := stream.read(_BLOCK)):
        member = _member(header, stream)
        # GNU's long name and long link, and pax.
        if member.kind in (b"L", b"K", b"x"):
            end = _end(stream, member.size)
            said |= _extension(stream, member)
        elif member.kind == b"g":  # of all members: comments, in every archive known
            end = _end(stream, member.size)
        else:
            if member.kind == b"S":
                _skip_sparse_map(stream, header)
            if said:
                member, said = _told(member, said, stream), {}
            end = _end(stream, member.size)
            yield member
        stream.skip_to(end)
    if not header:  # it ends with blocks of zeros
        raise _damaged(stream)
    # What another archive holds that was put behind this one is not left out unseen.
    while rest := stream.read(_REST):
        if rest.strip(b"\0"):
            raise stream.complaint.of(
                "tar archive with more behind its end, such as another archive"
            )


def _end(stream: UnpackedStream, size: int) -> int:
    return stream.position + -(-size // _BLOCK) * _BLOCK


def _member(header: bytes, stream: UnpackedStream) -> TarMember:
    if len(header) < _BLOCK or not is_tar(header) or not _sums_up(header):
        raise _damaged(stream)
    kind = header[156:157]
    link = header[157:257].split(b"\0", 1)[0]
    return TarMember(_name(header), _number(header[124:136], stream), kind, link, kind == b"S")


def _sums_up(header: bytes) -> bool:
    """Is the checksum that of the header, in which its own place counts as blanks?"""
    digits = header[_CHECKSUM].strip(b" \0")
    if not re.fullmatch(b"[0-7]{1,8}", digits):
        return False
    return int(digits, 8) == sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ")


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] != b"ustar\0":  # GNU's own format has other fields in the prefix's place
        return name
    prefix = header[345:500].split(b"\0", 1)[0]
    return prefix + b"/" + name if prefix else name


def _number(field: bytes, stream: UnpackedStream) -> int:
    """A size: octal digits, or in GNU's way a number to the base 256 with the first bit set."""
    if field[0] == 0x80:
        number = int.from_bytes(field[1:], "big")
    else:
        digits = field.strip(b" \0")
        if not re.fullmatch(b"[0-7]*", digits):
            raise _damaged(stream)
        number = int(digits or b"0", 8)
    if number > _LONGEST_SIZE:
        raise _damaged(stream)
    return number


def _extension(stream: UnpackedStream, member: TarMember) -> dict[bytes, bytes]:
    """What a GNU long name or a pax header says of the next member."""
    # Why this is not done by `tarfile`: it reads these into memory whatever size the archive claims
    # for them, so that a small archive could ask for gigabytes.
    if member.size > (_LONGEST_PAX if member.kind == b"x" else _LONGEST_NAME):
        raise _damaged(stream)
    content = stream.read(member.size)
    if member.kind == b"x":
        return dict(re.findall(_PAX_RECORD, content))
    return {b"path" if member.kind == b"L" else b"linkpath": content.split(b"\0", 1)[0]}


def _told(member: TarMember, said: dict[bytes, bytes], stream: UnpackedStream) -> TarMember:
    size = said.get(b"size")
    if size is not None and not re.fullmatch(rb"\d{1,18}", size):
        raise _damaged(stream)
    return replace(
        member,
        name=said.get(b"path", member.name),
        link=said.get(b"linkpath", member.link),
        size=member.size if size is None else int(size),
        sparse=member.sparse or any(key.startswith(b"GNU.sparse.") for key in said),
    )


def _skip_sparse_map(stream: UnpackedStream, header: bytes) -> None:
    """A map of more than four parts goes on in blocks of its own behind the header."""
    more = header[482]
    while more:
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK:
            raise _damaged(stream)
        more = block[504]


def _damaged(stream: UnpackedStream) -> StalelineError:
    return stream.complaint.of(f"damaged tar archive at unpacked offset {stream.position:#x}")

# SPDX-License-Identifier: GPL-2.0-or-later
"""The file format of lzop, in which the kernel's build puts LZO data.

Layout: ``parse_header()`` and ``unlzo()`` in lib/decompress_unlzo.c (6.12). Checksums are
passed over, as there.
"""

from __future__ import annotations

from struct import error as StructError  # noqa: N812
from struct import unpack_from
from typing import Final

from lzallright import LZOCompressor, LZOError

__all__ = ["LzopError", "read_lzop"]

_MAGIC: Final = b"\x89LZO\0\r\n\x1a\n"
_WITH_LEVEL: Final = 0x0940  # from this version on there are a level and the upper mtime
_HAS_FILTER: Final = 0x800
_BLOCK: Final = 256 << 10  # LZO_BLOCK_SIZE


class LzopError(Exception):
    """The data break a rule of the format."""


def read_lzop(file: memoryview, limit: int) -> bytearray:
    """Unpack all blocks.

    Args:
        file: From its first byte; what follows the last block is passed over.
        limit: Most bytes that may come out.

    Raises:
        LzopError: The data are damaged, or unpack to more.
    """
    unpacked = bytearray()
    try:
        at = _header_size(file)
        while size := _u32(file, at):
            if len(unpacked) + size > limit:
                raise LzopError(f"more than the claimed {limit} bytes")
            packed = _u32(file, at + 4)
            start = at + 12  # behind a checksum
            unpacked += _block(file[start : start + packed], packed, size, at)
            at = start + packed
    except StructError as error:
        raise LzopError("it ends too early") from error
    return unpacked


def _header_size(file: memoryview) -> int:
    if bytes(file[: len(_MAGIC)]) != _MAGIC:
        raise LzopError("not the header of lzop")
    (version,) = unpack_from(">H", file, 9)
    has_level = version >= _WITH_LEVEL
    at = 17 if has_level else 16  # versions and method
    at += 8 if _u32(file, at) & _HAS_FILTER else 4  # flags
    at += 12 if has_level else 8  # mode and mtime
    (name_size,) = unpack_from("B", file, at)
    return at + 1 + int(name_size) + 4  # checksum


def _block(packed: memoryview, packed_size: int, size: int, at: int) -> bytes:
    if size > _BLOCK or not 0 < packed_size <= size or len(packed) != packed_size:
        raise LzopError(f"block at +{at:#x} of a size that cannot be")
    if packed_size == size:  # stored
        return bytes(packed)
    try:
        unpacked = bytes(LZOCompressor.decompress(bytes(packed), size))
    except LZOError as error:  # whose text may be the rest of the data
        raise LzopError(f"block at +{at:#x} cannot be unpacked") from error
    if len(unpacked) != size:
        raise LzopError(f"block at +{at:#x} is {len(unpacked)} of {size} bytes")
    return unpacked


def _u32(file: memoryview, at: int) -> int:
    (number,) = unpack_from(">I", file, at)
    return int(number)

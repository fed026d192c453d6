# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpack the compressed kernel inside a bzImage, within fixed bounds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from struct import unpack_from

import lz4.block
import zstandard

from staleline.errors import KernelImageError
from staleline.kernel.file.lzop import LzopError, read_lzop
from staleline.unpacking import DAMAGED, compression_of, unpacked_pieces

__all__ = ["MAX_PACKED", "MAX_UNPACKED", "decompress"]

MAX_PACKED = 64 << 20
"""Largest compressed kernel accepted, in bytes; distribution kernels have 7 to 20 MiB."""

MAX_UNPACKED = 192 << 20
"""Largest unpacked kernel accepted, in bytes; distribution kernels have 50 to 70 MiB."""

_SIZE_TRAILER = 4
_LZ4_LEGACY_MAGIC = 0x184C2102
_LZ4_LEGACY_BLOCK = 8 << 20
_READ = 1 << 18


def decompress(payload: memoryview, where: str, *, limit: int = MAX_UNPACKED) -> memoryview:
    """Unpack one payload.

    Args:
        payload: Compressed stream and its four-byte size trailer.
        where: File and offset of the payload, for messages.
        limit: Largest accepted output in bytes.

    Raises:
        KernelImageError: Unknown or damaged stream, or an output that is not of the
            size its trailer claims.
    """
    if bytes(payload[:4]) == b"\x7fELF":  # CONFIG_KERNEL_UNCOMPRESSED
        return payload
    method = compression_of(payload)
    unpack = _UNPACK.get(method or "")
    if unpack is None:
        raise KernelImageError(
            f"payload of unknown compression ({method or bytes(payload[:4]).hex()})",
            where=where,
            do="unpack it with the kernel's scripts/extract-vmlinux and give the vmlinux",
        )
    size = _claimed_size(payload, where, limit)
    try:
        unpacked = unpack(payload, size)
    except _DAMAGED as error:
        raise _damaged(method or "", str(error), where) from error
    if len(unpacked) != size:
        raise _damaged(method or "", f"{len(unpacked)} of {size} bytes came out", where)
    return memoryview(unpacked)


class _DamagedError(Exception):
    """A stream broke a rule of its own format."""


_DAMAGED = (
    _DamagedError,
    LzopError,
    *DAMAGED,
    zstandard.ZstdError,
    MemoryError,
    ValueError,
    RuntimeError,
    lz4.block.LZ4BlockError,
)


def _damaged(method: str, what: str, where: str) -> KernelImageError:
    return KernelImageError(
        f"damaged {method} payload: {what}",
        where=where,
        do="the file is truncated or corrupt, copy it again",
    )


def _claimed_size(payload: memoryview, where: str, limit: int) -> int:
    if len(payload) < 2 * _SIZE_TRAILER:
        raise _damaged("", f"only {len(payload)} bytes", where)
    # Appended by arch/x86/boot/compressed/Makefile (size_append), and for gzip the stream's own
    # ISIZE. It bounds the output, so that a decompression bomb stops at its claim.
    (size,) = unpack_from("<I", payload, len(payload) - _SIZE_TRAILER)
    if not 0 < size <= limit:
        raise KernelImageError(
            f"payload claims to unpack to {size} bytes, the limit is {limit}",
            where=where,
            do="the file is corrupt or no kernel, copy it again",
        )
    return int(size)


def _zstd(payload: memoryview, size: int) -> bytes:
    frame = payload[:-_SIZE_TRAILER]
    declared = zstandard.frame_content_size(frame)
    if declared not in (-1, size):  # -1: not in the header, as the kernel's build leaves it
        raise _DamagedError(f"frame header claims {declared} bytes, the trailer {size}")
    # One call with a known bound spares the window buffer of the streaming interface.
    return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)


def _lz4(payload: memoryview, size: int) -> bytearray:
    """Legacy frame (``lz4 -l``): magic, then blocks of u32 length and up to 8 MiB output."""
    unpacked = bytearray()
    position, end = 0, len(payload) - _SIZE_TRAILER
    while position + 4 <= end:
        (length,) = unpack_from("<I", payload, position)
        position += 4
        # Of the frame, and of one that was put behind it: lib/decompress_unlz4.c goes on as well.
        if length == _LZ4_LEGACY_MAGIC:
            continue
        if position + length > end:
            raise _DamagedError(f"block at +{position:#x} runs past the payload")
        room = min(_LZ4_LEGACY_BLOCK, size - len(unpacked))
        block = payload[position : position + length]
        unpacked += lz4.block.decompress(block, uncompressed_size=room)
        position += length
    return unpacked


def _lzo(payload: memoryview, size: int) -> bytearray:
    return read_lzop(payload[:-_SIZE_TRAILER], size)


def _streamed(method: str, payload: memoryview, size: int) -> bytearray:
    """By a decoder that takes and gives small pieces; it finds the end of its stream itself."""
    packed = (bytes(payload[at : at + _READ]) for at in range(0, len(payload), _READ))
    unpacked = bytearray()
    for piece in unpacked_pieces(method, lambda: next(packed, b"")):
        unpacked += piece
        if len(unpacked) > size:
            raise _DamagedError(f"more than the claimed {size} bytes")
    return unpacked


_UNPACK: dict[str, Callable[[memoryview, int], bytes | bytearray]] = {
    "zstd": _zstd,
    "lz4": _lz4,
    "lzo": _lzo,
    **{method: partial(_streamed, method) for method in ("gzip", "xz", "lzma", "bzip2")},
}

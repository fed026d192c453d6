# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpack the compressed kernel inside a bzImage, within fixed bounds.

The last four bytes of every payload are the unpacked size as a little-endian u32:
arch/x86/boot/compressed/Makefile appends it (``size_append``), and for gzip it is the
stream's own ISIZE. It bounds the output, so a decompression bomb stops at its claim.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from struct import unpack_from
from typing import Protocol

import lz4.block
import zstandard

from staleline.errors import KernelImageError

__all__ = ["MAX_UNPACKED", "compression_of", "decompress"]

MAX_UNPACKED = 512 << 20
"""Largest unpacked kernel accepted, in bytes; distribution kernels have 50 to 70 MiB."""

_SIZE_TRAILER = 4
_LZ4_LEGACY_MAGIC = 0x184C2102
_LZ4_LEGACY_BLOCK = 8 << 20
_STEP = 4 << 20
_LZMA_MEMORY = 256 << 20  # room for a dictionary of 128 MiB

_MAGICS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02\x21\x4c\x18": "lz4",
    b"\xfd7zXZ\x00": "xz",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\x5d\x00\x00": "lzma",
    b"\x89LZO": "lzo",
}


class _Streaming(Protocol):
    """The common face of LZMADecompressor and BZ2Decompressor."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: memoryview | bytes, max_length: int = ...) -> bytes: ...


def compression_of(data: memoryview) -> str | None:
    """Name of the compression a stream begins with, or None if it is none known here."""
    head = bytes(data[:6])
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), None)


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
    EOFError,
    MemoryError,
    OSError,
    ValueError,
    RuntimeError,
    lzma.LZMAError,
    zlib.error,
    zstandard.ZstdError,
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
        if length == _LZ4_LEGACY_MAGIC:
            continue
        if position + length > end:
            raise _DamagedError(f"block at +{position:#x} runs past the payload")
        room = min(_LZ4_LEGACY_BLOCK, size - len(unpacked))
        block = payload[position : position + length]
        unpacked += lz4.block.decompress(block, uncompressed_size=room)
        position += length
    return unpacked


def _gzip(payload: memoryview, size: int) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    unpacked = stream.decompress(payload, size)
    if stream.unconsumed_tail and stream.decompress(stream.unconsumed_tail, 1):
        raise _DamagedError(f"more than the claimed {size} bytes")
    return unpacked


def _xz(payload: memoryview, size: int) -> bytearray:
    stream = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
    return _drain(stream, payload[:-_SIZE_TRAILER], size)


def _bzip2(payload: memoryview, size: int) -> bytearray:
    return _drain(bz2.BZ2Decompressor(), payload[:-_SIZE_TRAILER], size)


def _drain(stream: _Streaming, compressed: memoryview, size: int) -> bytearray:
    unpacked = bytearray()
    piece = stream.decompress(compressed, max_length=min(_STEP, size + 1))
    while piece:
        unpacked += piece
        if len(unpacked) > size:
            raise _DamagedError(f"more than the claimed {size} bytes")
        if stream.eof:
            break
        piece = stream.decompress(b"", max_length=_STEP)
    return unpacked


_UNPACK: dict[str, Callable[[memoryview, int], bytes | bytearray]] = {
    "zstd": _zstd,
    "lz4": _lz4,
    "gzip": _gzip,
    "xz": _xz,
    "lzma": _xz,
    "bzip2": _bzip2,
}

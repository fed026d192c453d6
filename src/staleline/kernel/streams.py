# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed parts of packages, unpacked piece by piece and within bounds.

A package is many times larger unpacked than the kernel in it, so nothing is kept but what
is asked for. What a stream may unpack to is bounded by what was read of it: modules and
text compress to no less than a fiftieth, a bomb to a thousandth.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Final, Protocol, cast

import zstandard

from staleline.errors import KernelImageError
from staleline.kernel.source import ByteSource

__all__ = ["DAMAGED", "MAX_STREAM", "UnpackedStream", "compression_of", "unpacked_pieces"]

MAX_STREAM: Final = 4 << 30
"""Most bytes a part of a package may unpack to; Debian's largest unpack to about 1 GiB."""

DAMAGED: Final = (EOFError, OSError, lzma.LZMAError, zlib.error, zstandard.ZstdError)
"""What the decoders raise on data that is not what its first bytes promise."""

_LZMA_MEMORY: Final = 136 << 20  # a dictionary of 128 MiB, far more than the build asks for
_FREE = 64 << 20  # bytes that may come out whatever went in
_RATIO = 100
_STEP = 1 << 20
_READ = 1 << 17
_ZSTD_WINDOW = 128 << 20

_MAGICS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02\x21\x4c\x18": "lz4",  # the legacy frame
    b"\xfd7zXZ\x00": "xz",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\x5d\x00\x00": "lzma",
    b"\x89LZO": "lzo",
}


class _Decoder(Protocol):
    """The common face of LZMADecompressor and BZ2Decompressor."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def compression_of(head: memoryview) -> str | None:
    """Compression of a stream that begins with these bytes; None if it is none known here."""
    start = bytes(head[:6])
    return next((name for magic, name in _MAGICS.items() if start.startswith(magic)), None)


class UnpackedStream:
    """What a compressed range of a source unpacks to, read once from start to end.

    Args:
        source: The package.
        start: Offset of the first compressed byte.
        size: Number of compressed bytes.
        limit: Most bytes that may come out.
    """

    def __init__(
        self, source: ByteSource, start: int, size: int, *, limit: int = MAX_STREAM
    ) -> None:
        self.where = f"{source.where}+{start:#x}"
        """File and offset of the compressed data, for messages."""
        self.position = 0
        """Unpacked bytes read so far."""
        self._pieces = _bounded_pieces(_Packed(source, start, size), self.where, limit)
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """The next bytes, fewer only at the end.

        Raises:
            KernelImageError: The stream is damaged, or larger than the limit.
        """
        parts = []
        while size > 0 and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def skip_to(self, position: int) -> None:
        """Read and drop everything before a position."""
        while self.position < position and self._some(position - self.position):
            pass

    def _some(self, size: int) -> memoryview:
        """At most `size` of the next bytes; none at the end only."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        part, self._rest = self._rest[:size], self._rest[size:]
        self.position += len(part)
        return part


class _Packed:
    """The compressed bytes, and how many were read.

    It knows nothing of who reads it: zstandard holds it in an object that the garbage
    collector cannot see into, and a cycle through that would never be freed.
    """

    def __init__(self, source: ByteSource, start: int, size: int) -> None:
        self._source = source
        self._start = start
        self._size = size
        self.count = 0

    def read(self) -> bytes:
        part = self._source.read(self._start + self.count, min(_READ, self._size - self.count))
        self.count += len(part)
        return bytes(part)

    def compression(self) -> str | None:
        return compression_of(self._source.read(self._start, min(6, self._size)))


def _bounded_pieces(packed: _Packed, where: str, limit: int) -> Iterator[bytes]:
    """What comes out, while it is neither damaged nor too much."""
    total, method = 0, packed.compression()
    try:
        for piece in unpacked_pieces(method, packed.read):
            total += len(piece)
            if total > min(limit, _FREE + _RATIO * packed.count):
                raise KernelImageError(
                    f"unpacks to more than {total - len(piece)} bytes",
                    where=where,
                    do="the file is corrupt or no kernel package, copy it again",
                )
            if piece:
                yield piece
    except DAMAGED as error:
        raise KernelImageError(
            f"damaged {method} data: {error}",
            where=where,
            do="the file is truncated or corrupt, copy it again",
        ) from error


_ReadPacked = Callable[[], bytes]


def unpacked_pieces(method: str | None, read: _ReadPacked) -> Iterator[bytes]:
    """What a stream unpacks to, in pieces of at most a MiB.

    Args:
        method: As `compression_of` calls it; anything it is not known for is passed on.
        read: Gives the next compressed bytes, none at the end.

    Raises:
        *DAMAGED: When the piece that cannot be unpacked is asked for.
    """
    match method:
        case "xz" | "lzma":
            return _decoded(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), read)
        case "bzip2":
            return _decoded(bz2.BZ2Decompressor(), read)
        case "gzip":
            return _inflated(read)
        case "zstd":
            return _zstd(read)
    return iter(read, b"")


def _decoded(decoder: _Decoder, read: _ReadPacked) -> Iterator[bytes]:
    while not decoder.eof:
        packed = read() if decoder.needs_input else b""
        piece = decoder.decompress(packed, _STEP)
        if not (packed or piece):
            raise EOFError("it ends too early")
        yield piece


def _inflated(read: _ReadPacked) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits=31)
    while not stream.eof:
        packed = stream.unconsumed_tail or read()
        piece = stream.decompress(packed, _STEP)
        if not (packed or piece):
            raise EOFError("it ends too early")
        yield piece


def _zstd(read: _ReadPacked) -> Iterator[bytes]:
    decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    return decoder.read_to_iter(cast("IO[bytes]", _Reader(read)), write_size=_STEP)


class _Reader:
    """The reading half of a file, which is what zstandard takes."""

    def __init__(self, read: _ReadPacked) -> None:
        self._read = read

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002
        return self._read()

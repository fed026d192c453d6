# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed data, unpacked piece by piece and within bounds: the one way in for all of it."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Final, NamedTuple, Protocol, cast

from staleline.errors import StalelineError

__all__ = [
    "DAMAGED",
    "Bounds",
    "Complaint",
    "UnpackedStream",
    "compression_of",
    "unpacked_pieces",
]


class DamagedZstdError(Exception):
    """What zstd's decoder says of damage; its own error would have to be imported by all."""


DAMAGED: Final = (EOFError, OSError, lzma.LZMAError, zlib.error, DamagedZstdError)
"""What the decoders raise on data that is not what its first bytes promise."""

#: Dictionaries of 128 MiB, far more than what compresses kernels and sosreports asks for.
_LZMA_MEMORY: Final = 136 << 20
_ZSTD_WINDOW: Final = 128 << 20
_STEP = 1 << 20
_HEAD = 6  # the longest magic

_MAGICS = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x50\x2a\x4d\x18": "zstd",  # a frame to skip, which pzstd begins with
    b"\x02\x21\x4c\x18": "lz4",  # the legacy frame
    b"\xfd7zXZ\x00": "xz",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\x5d\x00\x00": "lzma",
    b"\x89LZO": "lzo",
}

ReadPacked = Callable[[], bytes]
"""Gives the next compressed bytes, none at the end."""


def compression_of(head: memoryview | bytes) -> str | None:
    """Compression of a stream that begins with these bytes; None if it is none known here."""
    start = bytes(head[:_HEAD])
    return next((name for magic, name in _MAGICS.items() if start.startswith(magic)), None)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a stream may unpack to, in bytes.

    Attributes:
        most: Altogether.
        free: What may come out whatever went in.
        ratio: Beyond `free`, how many may come out for one that went in.
        alone: Nothing but streams compressed alike may follow, which would be left out unseen.
            Behind a kernel's stands its size.
    """

    most: int
    free: int = 64 << 20
    # Modules and text compress to no less than a fiftieth, a bomb to a thousandth.
    ratio: int = 100
    alone: bool = False

    def allow(self, unpacked: int, packed: int) -> bool:
        """Are so many bytes of so many within them?"""
        return unpacked <= min(self.most, self.free + self.ratio * packed)


@dataclass(frozen=True, slots=True)
class Complaint:
    """How whoever reads a stream says that it is not what it should be.

    Attributes:
        error: The type of its errors.
        where: The file, and where in it the stream begins.
        do: What to do about damage.
    """

    error: type[StalelineError]
    where: str
    do: str

    def of(self, what: str) -> StalelineError:
        """The error that says it."""
        return self.error(what, where=self.where, do=self.do)


class UnpackedStream:
    """What compressed or plain bytes unpack to, read once from start to end.

    Args:
        read: Gives the bytes.
        bounds: How much may come out.
        complaint: Says what is wrong with them.
    """

    def __init__(self, read: ReadPacked, bounds: Bounds, complaint: Complaint) -> None:
        self.complaint = complaint
        self.position = 0
        """Unpacked bytes read so far."""
        packed = _Packed(read)
        self.method = compression_of(packed.head)
        """How the bytes are compressed; None for plain ones."""
        self._pieces = _bounded_pieces(packed, self.method, bounds, complaint)
        self._rest = memoryview(b"")

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer only at the end, which are read again afterwards.

        Raises:
            StalelineError: The stream is damaged, or larger than its bounds.
        """
        start = self.read(size)
        self.position -= len(start)
        self._rest = memoryview(start + bytes(self._rest))
        return start

    def read(self, size: int) -> bytes:
        """The next bytes, fewer only at the end.

        Raises:
            StalelineError: The stream is damaged, or larger than its bounds.
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

    def skip_to_end(self) -> None:
        """Read and drop the rest, which finds the end of damaged data."""
        while self._some(_STEP):
            pass

    def _some(self, size: int) -> memoryview:
        """At most `size` of the next bytes; none at the end only."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        # A package or an archive is many times larger unpacked than what is wanted of it, so
        # nothing is kept but what is asked for.
        part, self._rest = self._rest[:size], self._rest[size:]
        self.position += len(part)
        return part


class _Packed:
    """The compressed bytes, and how many were read.

    It knows nothing of who reads it: zstandard holds it in an object that the garbage
    collector cannot see into, and a cycle through that would never be freed.
    """

    def __init__(self, read: ReadPacked) -> None:
        self._read = read
        self.count = 0
        self.head = b""
        """The first bytes, which `read` gives again."""
        while len(self.head) < _HEAD and (part := read()):
            self.head += part
        self._again = self.head

    def read(self) -> bytes:
        part, self._again = self._again or self._read(), b""
        self.count += len(part)
        return part


def _bounded_pieces(
    packed: _Packed, method: str | None, bounds: Bounds, complaint: Complaint
) -> Iterator[bytes]:
    """What comes out, while it is neither damaged nor too much."""
    total = 0
    try:
        for piece in unpacked_pieces(method, packed.read, alone=bounds.alone):
            total += len(piece)
            # What goes in is bounded, too: blocks that give nothing can be endless.
            if not (bounds.allow(total, packed.count) and packed.count <= bounds.most):
                raise complaint.of(f"unpacks to more than {total - len(piece)} bytes")
            if piece:
                yield piece
    except DAMAGED as error:
        raise complaint.of(f"damaged {method} data: {error}") from error


def unpacked_pieces(
    method: str | None, read: ReadPacked, *, alone: bool = False
) -> Iterator[bytes]:
    """What a stream unpacks to, in pieces of at most a MiB.

    Args:
        method: As `compression_of` calls it; anything it is not known for is passed on.
        read: Gives the next compressed bytes, none at the end.
        alone: As of `Bounds`.

    Raises:
        *DAMAGED: When the piece that cannot be unpacked is asked for.
    """
    match method:
        case "xz" | "lzma":
            new = partial(lzma.LZMADecompressor, memlimit=_LZMA_MEMORY)
            return _decoded(method, new, read, alone=alone)
        case "bzip2":
            return _decoded(method, bz2.BZ2Decompressor, read, alone=alone)
        case "gzip":
            return _decoded(method, _Inflater, read, alone=alone)
        case "zstd":
            return _zstd(read)
    return iter(read, b"")


class _Decoder(Protocol):
    """The common face of LZMADecompressor and BZ2Decompressor."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, packed: bytes, max_length: int = ..., /) -> bytes: ...


class _Inflater:
    """zlib's decoder with the face of the other two."""

    def __init__(self) -> None:
        # The header of gzip, and none of zlib's (31 is 16 and 15, zlib.h on inflateInit2).
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, packed: bytes, max_length: int = _STEP, /) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + packed, max_length)


def _decoded(
    method: str, new: Callable[[], _Decoder], read: ReadPacked, *, alone: bool
) -> Iterator[bytes]:
    packed = b""
    while True:
        decoder = new()
        while not decoder.eof:
            if decoder.needs_input:
                packed = packed or read()
            piece = decoder.decompress(packed, _STEP)
            if not (packed or piece):
                raise EOFError("it is cut short")
            packed = b""
            yield piece
        # Streams that follow each other, as parallel compressors write them, are unpacked as one.
        packed = decoder.unused_data.lstrip(b"\0")
        while len(packed) < _HEAD and (more := read()):
            # Zeros may stand between two streams (xz file format, 2.2; gzip does the same).
            packed = (packed + more).lstrip(b"\0")
            # Nothing, so that bounds are asked while there are but zeros.
            yield b""
        if compression_of(packed) != method:
            if alone and packed:
                raise OSError("something else is behind its end")
            return


def _zstd(read: ReadPacked) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415 - compiled, so the single file can do without

    decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frames = _Frames(read)
    stream = decoder.stream_reader(cast("IO[bytes]", frames), read_across_frames=True)
    try:
        while piece := stream.read(_STEP):
            yield piece
    except zstandard.ZstdError as error:
        raise DamagedZstdError(str(error)) from error
    if not frames.ended:  # the decoder takes a frame that is cut short for whole
        raise EOFError("it is cut short")


class _Step(NamedTuple):
    """How many bytes of zstd data come next; is what they say needed, does a frame begin?"""

    size: int
    needed: bool = True
    begins: bool = False


class _Frames:
    """The reading half of a file of zstd frames, which sees where they end."""

    def __init__(self, read: ReadPacked) -> None:
        self._read = read
        self._steps = _frames()
        self._step = next(self._steps)
        self._held = b""

    @property
    def ended(self) -> bool:
        """Was a frame whole with what was read last?"""
        return self._step.begins and not self._held

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002
        packed = self._read()
        rest = memoryview(self._held + packed)
        while rest and not (self._step.needed and len(rest) < self._step.size):
            known = bytes(rest[: self._step.size]) if self._step.needed else b""
            missing = self._step.size - len(rest)
            rest = rest[self._step.size :]
            more = missing > 0
            self._step = self._step._replace(size=missing) if more else self._steps.send(known)
        self._held = bytes(rest)
        return packed


def _frames() -> Generator[_Step, bytes, None]:
    """The layout of zstd frames, one after the other (RFC 8878, 3.1); is sent what it needs."""
    while True:
        magic = int.from_bytes((yield _Step(4, begins=True)), "little")
        if magic & ~0xF == 0x184D2A50:  # a frame to skip
            size = int.from_bytes((yield _Step(4)), "little")
            if size:
                yield _Step(size, needed=False)
            continue
        (descriptor,) = yield _Step(1)
        single = descriptor >> 5 & 1
        content_size = (single, 2, 4, 8)[descriptor >> 6]
        if size := (1 - single) + (0, 1, 2, 4)[descriptor & 3] + content_size:
            yield _Step(size, needed=False)
        last = 0
        while not last:
            block = int.from_bytes((yield _Step(3)), "little")
            last, kind, size = block & 1, block >> 1 & 3, block >> 3
            if size := 1 if kind == 1 else size:  # one byte, repeated
                yield _Step(size, needed=False)
        if descriptor >> 2 & 1:
            yield _Step(4, needed=False)  # the checksum

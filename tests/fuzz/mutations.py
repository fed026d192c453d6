# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes that make bad input of good: in bytes, in text, and in the structure of both."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from collections.abc import Callable, Sequence

import zstandard

__all__ = ["mutated"]

LONGEST = 1 << 20  # bytes of an input before it is compressed

_TOKENS = (
    *(b"\x00", b"\x1b[31m", b"\r", b"\n", b"\xff\xfe", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"="),
    *(b"-1", b"0", b"99999999999999999999", b"1e999", b"0x", b"0xffffffffffffffff", b"NaN"),
    *(b"null", b"true", b'""', b"{", b"}", b"[", b"]", b"<", b"<!DOCTYPE a [", b"&a;", b'"'),
    *(b"CPU 0:\n", b"processor\t: 0\n", b"[    0.000000] ", b"ustar", b"\x7fELF", b"HdrS"),
)

_Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutated(chance: random.Random, seed: bytes, others: Sequence[bytes]) -> bytes:
    """One input made of `seed`, and of parts of `others`."""
    data = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice(_MUTATIONS)(chance, data, others)
        del data[LONGEST:]
    if chance.random() < 0.1:
        return chance.choice(_PACKED)(bytes(data))
    return bytes(data)


def _place(chance: random.Random, data: bytearray) -> int:
    return chance.randint(0, len(data))


def _flip(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    for _number in range(chance.randint(1, 8)):
        if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    first, last = sorted((_place(chance, data), _place(chance, data)))
    if chance.random() < 0.5:
        del data[last:]
    else:
        del data[first:last]


def _splice(chance: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = chance.choice(others)
    start = chance.randint(0, len(other))
    at = _place(chance, data)
    data[at:at] = other[start : start + chance.choice((16, 256, 4096, 65536))]


def _repeat(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = _place(chance, data)
    part = bytes(data[start : start + chance.choice((1, 40, 4000))])
    data[start:start] = part * chance.choice((2, 50, 5000))


def _token(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at : at + chance.choice((0, 1, 8))] = chance.choice(_TOKENS)


def _number(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A giant number in the place of the digits at some place."""
    digits = [at for at in range(min(len(data), 1 << 16)) if chr(data[at]).isdigit()]
    if digits:
        at = chance.choice(digits)
        data[at : at + 1] = b"9" * chance.choice((2, 20, 5000))


def _nest(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    opening, closing = chance.choice(
        ((b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b"(", b")"))
    )
    depth = chance.choice((10, 900, 50_000))
    at = _place(chance, data)
    data[at:at] = opening * depth + (closing * depth if chance.random() < 0.7 else b"")


def _long_line(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if chance.random() < 0.5:
        data[:] = data.replace(b"\n", b" ")
    else:
        at = _place(chance, data)
        data[at:at] = chance.choice((b"x", b" ", b"\\", b"0 ")) * chance.choice((5000, 200_000))


_MUTATIONS: tuple[_Mutation, ...] = (
    *(_flip, _cut, _splice, _repeat, _token, _number, _nest, _long_line),
)
_PACKED: tuple[Callable[[bytes], bytes], ...] = (
    *(
        bz2.compress,
        lambda data: gzip.compress(data, 1),
        lambda data: lzma.compress(data, preset=0),
    ),
    zstandard.ZstdCompressor().compress,
)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of registers: what each name of x86 means of which register."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = ["CARRY", "FLAGS", "FLAGS_NAMES", "Part", "parts_of", "parts_of_all", "upper_halves"]

FLAGS_NAMES: Final = frozenset({"eflags", "rflags", "flags"})
#: Parts of a general register that can be written by themselves: first bit and width.
_PARTS: Final = ((0, 8), (8, 8), (16, 16), (32, 32))


class Part(NamedTuple):
    """Some adjacent bits of a register.

    Attributes:
        register: By its 64-bit name.
        first: The lowest of them.
        width: How many.
    """

    register: str
    first: int
    width: int

    @property
    def mask(self) -> int:
        """So many ones."""
        return (1 << self.width) - 1


#: ZF, SF, OF and PF; and CF, which some instructions write alone and some leave alone.
FLAGS: Final = Part("eflags", 0, 64)
CARRY: Final = Part("carry", 0, 64)


def parts_of(name: str) -> tuple[Part, ...]:
    """The parts that a register's name means."""
    if name in FLAGS_NAMES:
        return (FLAGS,)
    whole, first, width = _NAMED.get(name, (name, 0, 0))
    if not width:
        return (Part(name, 0, 64),)
    last = first + width
    return tuple(Part(whole, low, bits) for low, bits in _PARTS if first <= low < last)


def parts_of_all(names: Iterable[str]) -> tuple[Part, ...]:
    """The parts that several names mean, each once."""
    return tuple(dict.fromkeys(part for name in sorted(names) for part in parts_of(name)))


def upper_halves(written: Iterable[str]) -> tuple[Part, ...]:
    """What a write of these registers clears besides."""
    # A write of 32 bits clears the upper half (AMD APM volume 1, 3.1.2).
    narrow = [name for name in written if _NAMED.get(name, ("", 0, 0))[1:] == (0, 32)]
    return tuple(Part(_NAMED[name][0], *_PARTS[-1]) for name in narrow)


def _named() -> Iterator[tuple[str, tuple[str, int, int]]]:
    """Name -> the 64-bit register, first bit and width."""
    for letter in "abcd":
        whole = f"r{letter}x"
        yield f"{letter}l", (whole, 0, 8)
        yield f"{letter}h", (whole, 8, 8)
        yield f"{letter}x", (whole, 0, 16)
        yield f"e{letter}x", (whole, 0, 32)
        yield whole, (whole, 0, 64)
    for legacy in ("si", "di", "bp", "sp"):
        whole = f"r{legacy}"
        yield f"{legacy}l", (whole, 0, 8)
        yield legacy, (whole, 0, 16)
        yield f"e{legacy}", (whole, 0, 32)
        yield whole, (whole, 0, 64)
    for number in range(8, 16):
        whole = f"r{number}"
        for suffix, width in (("b", 8), ("w", 16), ("d", 32), ("", 64)):
            yield f"{whole}{suffix}", (whole, 0, width)


_NAMED: Final = dict(_named())

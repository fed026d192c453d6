# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that need not be run again, since all that they take is as it was.

What a call does is a function of where it begins and of what it reads before it writes there, its
own instructions among it, as long as it asks nothing of the CPU that memory does not hold.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from staleline.kernel.derivation import DerivationError

__all__ = ["KnownCalls", "TakenMemory"]

_Result = TypeVar("_Result")

#: Of calls that begin alike, so many are kept.
_MOST_KEPT: Final = 16


class _Readable(Protocol):
    """Memory."""

    def read(self, address: int, size: int) -> bytes: ...


@dataclass(slots=True)
class TakenMemory:
    """What code that runs takes from memory and did not write itself, byte by byte.

    A byte has several addresses. One that is written through one of them and read through another
    counts as taken, with what was written: then fewer calls are known, and none is wrong.
    """

    memory: _Readable
    _bytes: dict[int, int] = field(default_factory=dict)
    _seen: set[tuple[int, int]] = field(default_factory=set)
    _written: set[int] = field(default_factory=set)

    def read(self, address: int, size: int) -> None:
        """Before it happens."""
        # Once more it tells nothing new: of instructions in a loop.
        if (address, size) in self._seen:
            return
        self._seen.add((address, size))
        # What no memory is behind ends the run, or is the part of KASAN's shadow that is 0.
        with suppress(DerivationError):
            for at, byte in enumerate(self.memory.read(address, size), address):
                # What it wrote there itself is no input of the call.
                if at not in self._written:
                    self._bytes.setdefault(at, byte)

    def write(self, address: int, size: int) -> None:
        """Before or after it happened."""
        self._written.update(range(address, address + size))

    def spans(self) -> Iterator[tuple[int, bytes]]:
        """Address and content of all that was taken."""
        span = bytearray()
        start = 0
        for at, byte in sorted(self._bytes.items()):
            if span and at != start + len(span):
                yield start, bytes(span)
                span.clear()
            if not span:
                start = at
            span.append(byte)
        if span:
            yield start, bytes(span)


@dataclass(slots=True)
class KnownCalls(Generic[_Result]):
    """What came of calls, by how they begin and what they took."""

    memory: _Readable
    _kept: dict[Hashable, list[tuple[Sequence[tuple[int, bytes]], _Result]]] = field(
        default_factory=dict
    )

    def find(self, begins: Hashable) -> _Result | None:
        """What comes of a call that begins like this in memory as it is now, if that is known."""
        for taken, result in self._kept.get(begins, ()):
            if all(self.memory.read(address, len(held)) == held for address, held in taken):
                return result
        return None

    def keep(self, begins: Hashable, taken: TakenMemory, result: _Result) -> None:
        """Know one more; the oldest of many is forgotten."""
        kept = self._kept.setdefault(begins, [])
        kept.insert(0, (tuple(taken.spans()), result))
        del kept[_MOST_KEPT:]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Single changes to a machine or an image, and which of many makes a run end otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from staleline.kernel.rerun.inputs import Register, only
from staleline.kernel.rerun.variation import Cell, Variation

__all__ = [
    "AnswerBit",
    "Change",
    "Memory",
    "bits_of",
    "changed",
    "halved",
    "responsible",
    "variation",
]


@dataclass(frozen=True, slots=True)
class AnswerBit:
    """One bit of what the hardware answers, turned over."""

    register: Register
    bit: int

    def __str__(self) -> str:
        return f"{self.register}[{self.bit}]"


@dataclass(frozen=True, slots=True)
class Memory:
    """Other bytes in one cell.

    Attributes:
        cell: Where.
        content: What is there instead.
        name: How to call the place.
        is_code: `content` is the only other content there can be.
    """

    cell: Cell
    content: bytes
    name: str
    is_code: bool = False

    def __str__(self) -> str:
        return self.name


Change = AnswerBit | Memory


def variation(changes: Iterable[Change]) -> Variation:
    """All of them together."""
    flips: dict[Register, int] = {}
    memory: dict[int, bytes] = {}
    for change in changes:
        if isinstance(change, Memory):
            memory[change.cell[0]] = change.content
        else:
            flips[change.register] = flips.get(change.register, 0) | 1 << change.bit
    return Variation(only(flips), memory)


def bits_of(asked: Mapping[Register, int]) -> list[Change]:
    """One change for every bit that was turned over."""
    return [
        AnswerBit(register, bit)
        for register, mask in sorted(asked.items(), key=repr)
        for bit in range(mask.bit_length())
        if mask >> bit & 1
    ]


def responsible(
    changes: Sequence[Change], still: Callable[[Sequence[Change]], bool]
) -> Sequence[Change] | None:
    """The first changes up to one without which those before it do nothing.

    Args:
        changes: All of them together make a difference.
        still: Do these make the difference?

    Returns:
        First changes that make the difference, where those but the last do not; None if all
        of them together make none.
    """
    if not still(changes):
        return None
    low, high = 0, len(changes)  # changes[:low] do not, changes[:high] do
    while high - low > 1:
        middle = (low + high) // 2
        if still(changes[:middle]):
            high = middle
        else:
            low = middle
    return changes[:high]


def halved(changes: Iterable[Memory], seed: int, *, complement: bool) -> list[Memory]:
    """Half of the changes; with `complement`, the other half."""
    return [change for change in changes if _coin(seed, change.cell) is not complement]


def _coin(seed: int, cell: Cell) -> bool:
    digest = hashlib.blake2b(f"{seed} {cell}".encode(), digest_size=1).digest()
    return bool(digest[0] & 1)


def changed(memory: Memory, seed: int) -> Memory:
    """Other bytes for a cell; in every second round at least, whether it is zero changes too.

    Zero becomes one, all ones, random, or the largest signed number; anything else becomes
    zero in every second round, else its lowest bit or random bits are turned over. Code is
    changed already.
    """
    if memory.is_code:
        return memory
    size, value = len(memory.content), int.from_bytes(memory.content, "little")
    ones = (1 << 8 * size) - 1
    digest = hashlib.blake2b(memory.content, digest_size=size, salt=bytes([seed % 256])).digest()
    some = int.from_bytes(digest, "little")
    choices = (1, ones, some | 1, ones >> 1) if value == 0 else (0, value ^ 1, 0, value ^ some)
    return replace(memory, content=choices[seed % len(choices)].to_bytes(size, "little"))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Branches that a kernel patches into its code, and how each looks the other way round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from staleline.kernel.image.image import KernelImage

__all__ = ["StaticBranch", "static_branches", "unnamed_branches"]

#: i32 code, i32 target and i64 key for each, relative to its own place
#: (include/linux/jump_label.h, struct jump_entry, linux 5.10 to 7.3).
_BOUNDS: Final = ("__start___jump_table", "__stop___jump_table")
_ENTRY_SIZE: Final = 16
_SET_UP: Final = "jump_label_init"  # with CONFIG_JUMP_LABEL only, kernel/jump_label.c
#: At `code` is one of these, of 2 or 5 bytes (arch/x86/kernel/jump_label.c).
_JUMP_SHORT, _JUMP_NEAR = b"\xeb", b"\xe9"
_NOPS: Final = {b"\x66\x90": _JUMP_SHORT, b"\x0f\x1f\x44\x00\x00": _JUMP_NEAR}
_NOP_OF_LENGTH: Final = {len(nop): nop for nop in _NOPS}
#: Bits of the key that say how the branch was compiled.
_KEY_FLAGS: Final = 0b11


@dataclass(frozen=True, slots=True)
class StaticBranch:
    """One branch.

    Attributes:
        address: Of the instruction.
        code: As it is in the image.
        other: As it is when the key has the other value.
        key: Address of the key.
    """

    address: int
    code: bytes
    other: bytes
    key: int


def static_branches(
    image: KernelImage, executed: Iterable[tuple[int, int]]
) -> Iterator[StaticBranch]:
    """The branches in these blocks; none if the image does not name its jump table.

    Args:
        image: The kernel.
        executed: Address and size of blocks of instructions.
    """
    start, end = map(image.symbols.address, _BOUNDS)
    if start is None or end is None or not start < end:
        return
    table = image.read(start, (end - start) // _ENTRY_SIZE * _ENTRY_SIZE)
    fields = np.frombuffer(table, np.dtype([("code", "<i4"), ("target", "<i4"), ("key", "<i8")]))
    own = np.arange(len(fields)) * _ENTRY_SIZE
    passed = _inside(np.uint64(start) + (own + fields["code"]).view(np.uint64), executed)
    for index in np.flatnonzero(passed).tolist():
        code, target, key = fields[index].tolist()
        place = start + index * _ENTRY_SIZE
        branch = _branch(image, place + code, place + 4 + target, place + 8 + key)
        if branch is not None:
            yield branch


def unnamed_branches(image: KernelImage) -> bool:
    """Has the image static branches that it does not tell the places of?"""
    # Without CONFIG_KALLSYMS_ALL the names of the table's ends are dropped up to 6.1
    # (``symbol_valid()`` in scripts/kallsyms.c).
    named = all(name in image.symbols for name in _BOUNDS)
    return _SET_UP in image.symbols and not named


def _inside(addresses: NDArray[np.uint64], blocks: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which of the addresses are in one of the blocks, which may overlap."""
    first, size = np.array(sorted(blocks), np.uint64).reshape(-1, 2).T
    end = np.maximum.accumulate(first + size)
    before = np.searchsorted(first, addresses, "right")
    return (before > 0) & (addresses < np.concatenate(([np.uint64(0)], end))[before])


def _branch(image: KernelImage, address: int, target: int, key: int) -> StaticBranch | None:
    for length, nop in _NOP_OF_LENGTH.items():
        code = image.read(address, length)
        if code == nop or code[:1] == _NOPS[nop]:
            width = length - 1
            distance = (target - address - length) % (1 << 8 * width)
            jump = _NOPS[nop] + distance.to_bytes(width, "little")
            return StaticBranch(address, code, jump if code == nop else nop, key & ~_KEY_FLAGS)
    return None

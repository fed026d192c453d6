# SPDX-License-Identifier: GPL-2.0-or-later
"""Which leaves and sub-leaves to ask a CPU for, given a way to execute CPUID on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from staleline.evidence.registers import CpuidTable, Registers

__all__ = ["ExecuteCpuid", "read_cpuid"]

#: (leaf, sub-leaf) -> registers.
ExecuteCpuid = Callable[[int, int], Registers]

_HYPERVISOR_BASE = 0x4000_0000
_EXTENDED_BASE = 0x8000_0000
_SME_LEAF = 0x8000_001F
#: No range is known to reach this far; bounds what a broken answer can cost.
_MAX_LEAVES = 0x100
_MAX_SUBLEAVES = 64


def read_cpuid(execute: ExecuteCpuid) -> CpuidTable:
    """Return the leaves of the CPU that `execute` runs CPUID on.

    Leaf 0x8000001F is asked for even beyond the maximum: Linux 5.18 to 6.4 did the same
    (fixed by Linux commit 9b040453d444), so the answer is evidence of what they saw.
    """
    leaves: dict[tuple[int, int], Registers] = {}
    for leaf in _leaves(execute):
        for subleaf in range(_MAX_SUBLEAVES):
            registers = execute(leaf, subleaf)
            leaves[leaf, subleaf] = registers
            if _is_last(leaf, subleaf, registers, leaves[leaf, 0]):
                break
    return CpuidTable(leaves)


def _leaves(execute: ExecuteCpuid) -> Iterator[int]:
    highest = execute(0, 0)[0]
    yield from range(min(highest + 1, _MAX_LEAVES))
    if execute(1, 0)[2] >> 31:
        yield from _range(_HYPERVISOR_BASE, execute(_HYPERVISOR_BASE, 0)[0])
    highest_extended = execute(_EXTENDED_BASE, 0)[0]
    yield from _range(_EXTENDED_BASE, highest_extended)
    if not _SME_LEAF <= highest_extended < _EXTENDED_BASE + _MAX_LEAVES:
        yield _SME_LEAF


def _range(base: int, highest: int) -> Iterator[int]:
    yield base
    if highest < base + _MAX_LEAVES:
        yield from range(base + 1, highest + 1)


def _is_last(leaf: int, subleaf: int, registers: Registers, first: Registers) -> bool:
    """Is there no sub-leaf after this one that says anything of caches, keys or topology?"""
    if leaf in (0x04, 0x8000_001D):
        return registers[0] & 0x1F == 0
    if leaf == 0x07:
        return subleaf >= first[0]
    if leaf in (0x0B, 0x1F, 0x8000_0026):
        return registers[2] >> 8 & 0xFF == 0
    return True

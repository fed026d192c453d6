# SPDX-License-Identifier: GPL-2.0-or-later
"""The combinations of facts as a grid: one axis per atom, one cell per combination."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from staleline.hardware import ENCRYPTION_LEAF
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.policy.atoms import VENDORS
from staleline.policy.axioms import axioms, encrypts
from staleline.policy.columns import evaluate_columns
from staleline.policy.expression import AtomIs, Comparison, Expression, Operator

__all__ = ["AXES", "LEAF_AXIS", "SME_AXIS", "Bits", "Grid", "grid_of", "literals_over"]

Bits = NDArray[np.bool_]

#: The atoms that are facts of their own, not derived from others.
AXES = (
    "vendor",
    "max_extended_leaf",
    "sme_bit_unchecked",
    "sev_supported",
    "hypervisor",
    "sme_enabled",
    "sev_guest",
    "sev_es_guest",
    "mem_encrypt",
    "tdx_host_enabled",
    "seamcalled",
    "snp_host",
)
_FULL = (len(VENDORS), *[2] * (len(AXES) - 1))
LEAF_AXIS, SME_AXIS = AXES.index("max_extended_leaf"), AXES.index("sme_bit_unchecked")
_SEV_AXIS = AXES.index("sev_supported")
#: Axis -> what a kernel lacks that has no code to tell its two sides apart.
_NEEDS_CODE = {
    "tdx_host_enabled": "seamcalled",
    "seamcalled": "seamcalled",
    "snp_host": "snp_host",
}


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the rows of a truth table lie.

    Attributes:
        shape: Length of every axis of `AXES`; 1 where the kernel cannot tell the sides apart.
        places: Per row, its cell's index in the flattened grid.
        possible: Flattened; the cells that a machine can have.
        atoms: Atom name -> its value in every cell, flattened.
    """

    shape: tuple[int, ...]
    places: NDArray[np.intp]
    possible: Bits
    atoms: Mapping[str, NDArray[Any]]

    @property
    def varied(self) -> tuple[str, ...]:
        """Atoms that tell cells apart, derived ones but for ``sme_active`` included."""
        long = (name for name, size in zip(AXES, self.shape, strict=True) if size > 1)
        return (*long, "sme_supported")

    def cells(self, rows: Sequence[bool]) -> Bits:
        """The cells into which at least one of the marked rows falls."""
        marked = np.zeros(self.possible.size, dtype=bool)
        marked[self.places[np.asarray(rows, dtype=bool)]] = True
        return marked

    def where(self, expression: Expression) -> Bits:
        """The cells in which an expression holds."""
        return evaluate_columns(expression, self.atoms, self.possible.size).can_be_true

    def machines(self, cells: Bits) -> int:
        """Cells as an integer: one bit per cell that a machine can have."""
        packed = np.packbits(cells[self.possible], bitorder="little")
        return int.from_bytes(packed.tobytes(), "little")

    def along_axes(self, cells: Bits) -> Bits:
        """Along the axes, with the SEV bit of a leaf that does not exist read as either."""
        grid: Bits = cells.reshape(self.shape).copy()
        by_bit: Bits = np.moveaxis(grid, (LEAF_AXIS, _SEV_AXIS), (0, 1))  # a view
        by_bit[0, 1] = by_bit[0, 0]
        return grid

    def literals(self, names: Sequence[str]) -> Mapping[Expression, int]:
        """The positive literals over these atoms, with the machines on which they hold."""
        positive = [literal for name in names for literal in literals_over(name)]
        return {literal: self.machines(self.where(literal)) for literal in positive}


def grid_of(rows: Sequence[RawFacts], lacks: Collection[str]) -> Grid:
    """Lay out the rows of a truth table.

    Args:
        rows: Every row's combination.
        lacks: ``seamcalled`` or ``snp_host`` where the kernel has no code for it; rows that
            have it may then be left out.
    """
    cells = np.asarray([_cell(facts) for facts in rows], dtype=np.intp).reshape(-1, len(AXES))
    shape = tuple(
        1 if _NEEDS_CODE.get(name) in lacks and not cells[:, axis].any() else length
        for axis, (name, length) in enumerate(zip(AXES, _FULL, strict=True))
    )
    places = np.ravel_multi_index(tuple(cells.T), shape)
    possible, atoms = _space(shape)
    return Grid(shape, np.asarray(places, dtype=np.intp), possible, atoms)


def _cell(facts: RawFacts) -> tuple[int, ...]:
    # Several rows may fall into one, where they differ in something that no atom names: bit 1 of a
    # leaf that does not exist, a vendor that no policy names, or a kexec jump.
    return (
        VENDORS.index(facts.vendor) if facts.vendor in VENDORS else 0,
        facts.leaf,
        facts.sme,
        facts.leaf and facts.sev,
        facts.hypervisor,
        facts.sme_enabled,
        facts.sev_status,
        facts.sev_es,
        facts.mem_encrypt,
        facts.tdx_keyids,
        facts.seamcalled,
        facts.snp_host,
    )


@cache
def _space(shape: tuple[int, ...]) -> tuple[Bits, Mapping[str, NDArray[Any]]]:
    """The possible cells of a grid, and every atom's value in every cell."""
    coordinates = np.indices(shape, dtype=np.int8).reshape(len(shape), -1)
    atoms: dict[str, NDArray[Any]] = {
        name: coordinates[axis].astype(bool) for axis, name in enumerate(AXES)
    }
    leaf = atoms["max_extended_leaf"]
    atoms["vendor"] = np.asarray(VENDORS)[coordinates[0]]
    # Any two maxima on either side will do: no rule asks for another leaf.
    atoms["max_extended_leaf"] = np.where(leaf, ENCRYPTION_LEAF, ENCRYPTION_LEAF - 1)
    atoms["sme_supported"] = leaf & atoms["sme_bit_unchecked"]
    # No row is of a TDX guest: a condition says of them what it says of any guest.
    atoms["tdx_guest"] = np.zeros(leaf.size, dtype=bool)
    atoms["sme_active"] = evaluate_columns(encrypts(), atoms, leaf.size).can_be_true
    holding = (evaluate_columns(axiom, atoms, leaf.size).can_be_true for axiom in axioms())
    return reduce(np.logical_and, holding), atoms


def literals_over(name: str) -> tuple[Expression, ...]:
    """Positive literals over an atom; along an axis they hold at places 1, 2 and so on."""
    if name == "vendor":
        return tuple(Comparison(name, Operator.EQ, vendor) for vendor in VENDORS[1:])
    if name == "max_extended_leaf":
        return (Comparison(name, Operator.GE, ENCRYPTION_LEAF),)
    return (AtomIs(name),)

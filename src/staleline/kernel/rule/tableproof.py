# SPDX-License-Identifier: GPL-2.0-or-later
"""z3's proof that a condition is what the rows of a truth table say."""

from __future__ import annotations

from dataclasses import dataclass, field

import z3

from staleline.kernel.rule.grid import AXES, Bits, literals_over
from staleline.policy.expression import Expression
from staleline.policy.smt import find_machine, to_z3

__all__ = ["agrees"]


def agrees(condition: Expression, happens: Bits, does_not: Bits) -> bool:
    """Does the condition say of every machine what was seen?

    Args:
        condition: Free of attributes.
        happens: Along the axes of `AXES`, the cells in which it was seen to happen.
        does_not: Likewise, the cells in which it was seen not to.
    """
    stated = to_z3(condition)
    # It must lie in the first wherever it holds, and in the second wherever it does not: so a
    # machine whose combination is in no row refutes it as well.
    contradicted = z3.Or(
        z3.And(stated, z3.Not(_Formula().over(happens))),
        z3.And(z3.Not(stated), z3.Not(_Formula().over(does_not))),
    )
    assert isinstance(contradicted, z3.BoolRef)
    return find_machine(contradicted) is None


@dataclass(frozen=True, slots=True)
class _Formula:
    """A decision diagram: equal parts of the grid become one formula."""

    met: dict[tuple[int, bytes], z3.BoolRef] = field(default_factory=dict)

    def over(self, cells: Bits, axis: int = 0) -> z3.BoolRef:
        """The cells' disjunction, the axes before `axis` being decided."""
        if not cells.any() or cells.all():
            return z3.BoolVal(bool(cells.any()))
        if cells.shape[0] == 1:
            return self.over(cells[0], axis + 1)
        key = (axis, cells.tobytes())
        if key not in self.met:
            self.met[key] = self._split(cells, axis)
        return self.met[key]

    def _split(self, cells: Bits, axis: int) -> z3.BoolRef:
        formula = self.over(cells[0], axis + 1)
        for literal, chosen in zip(literals_over(AXES[axis]), cells[1:], strict=True):
            formula = z3.If(to_z3(literal), self.over(chosen, axis + 1), formula)
        return formula

# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies in z3: are two rules the same, and if not, where do they differ?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, assert_never

import z3

from staleline.errors import ModelError
from staleline.policy.atoms import VENDORS, AtomType, atoms
from staleline.policy.axioms import axioms
from staleline.policy.expression import (
    AllOf,
    AnyOf,
    AtomIs,
    Attribute,
    Comparison,
    Expression,
    Negation,
    Operator,
    TruthValue,
)
from staleline.policy.literals import (
    conjunction_of,
    disjunction_of,
    is_positive,
    literals,
    opposite,
    rank,
)

__all__ = ["condition_where", "equivalent", "find_machine", "to_z3"]

_INTERRUPTED = "interrupted from keyboard"


@cache
def _vendor_sort() -> tuple[z3.DatatypeSortRef, Mapping[str, z3.DatatypeRef]]:
    """Vendors as an enumeration."""
    sort, constants = z3.EnumSort("Vendor", VENDORS)
    return sort, dict(zip(VENDORS, constants, strict=True))


@cache
def _variable(name: str) -> z3.ExprRef:
    match atoms()[name].type:
        case AtomType.BOOL:
            return z3.Bool(name)
        case AtomType.INT:
            return z3.Int(name)
        case AtomType.STR:
            return z3.Const(name, _vendor_sort()[0])


def to_z3(expression: Expression) -> z3.BoolRef:
    """An attribute-free expression as a z3 formula over its atoms."""
    match expression:
        case TruthValue(value):
            return z3.BoolVal(value)
        case AtomIs(name):
            return _as_bool(_variable(name))
        case Comparison():
            return _comparison(expression)
        case Negation(operand):
            return _as_bool(z3.Not(to_z3(operand)))
        case AllOf(operands):
            return _as_bool(z3.And(*(to_z3(operand) for operand in operands)))
        case AnyOf(operands):
            return _as_bool(z3.Or(*(to_z3(operand) for operand in operands)))
        case Attribute(name):
            raise ValueError(f"cc({name}) was not expanded")
        case _:
            assert_never(expression)


def _comparison(comparison: Comparison) -> z3.BoolRef:
    variable: Any = _variable(comparison.name)
    literal: Any = comparison.literal
    if isinstance(literal, str):
        literal = _vendor_sort()[1].get(literal)
        if literal is None:  # a vendor that no rule of the catalogue names
            return z3.BoolVal(comparison.operator is Operator.NE)
    match comparison.operator:
        case Operator.EQ:
            return _as_bool(variable == literal)
        case Operator.NE:
            return _as_bool(variable != literal)
        case Operator.GE:
            return _as_bool(variable >= literal)
        case Operator.GT:
            return _as_bool(variable > literal)
        case Operator.LE:
            return _as_bool(variable <= literal)
        case Operator.LT:
            return _as_bool(variable < literal)


def _as_bool(formula: Any) -> z3.BoolRef:
    assert isinstance(formula, z3.BoolRef)
    return formula


@cache
def _machines() -> z3.BoolRef:
    return _as_bool(z3.And(*(to_z3(axiom) for axiom in axioms())))


def find_machine(*formulas: z3.BoolRef) -> z3.ModelRef | None:
    """A machine that can exist and on which all formulas hold, or None.

    Raises:
        KeyboardInterrupt: It was sent while z3 looked.
        ModelError: z3 does not come to an answer.
    """
    solver = z3.Solver()
    solver.add(_machines(), *formulas)
    answer = solver.check()
    # Taken for "none" it would pass for a proof. Of Ctrl-C it is all that is left, as z3 takes the
    # signal.
    if answer == z3.unknown:
        reason = solver.reason_unknown()
        if reason == _INTERRUPTED:
            raise KeyboardInterrupt
        raise ModelError(f"z3 does not decide whether such a machine exists: {reason}")
    return solver.model() if answer == z3.sat else None


def equivalent(left: Expression, right: Expression, *assuming: Expression) -> bool:
    """Do both rules decide alike on every machine that can exist and is as assumed?"""
    assumed = (to_z3(assumption) for assumption in assuming)
    return find_machine(*assumed, _as_bool(to_z3(left) != to_z3(right))) is None


@dataclass(frozen=True, slots=True)
class _Cubes:
    """Finds a short disjunction of conjunctions equal to a formula on all machines."""

    formula: z3.BoolRef
    literals: tuple[Expression, ...]

    def __iter__(self) -> Iterator[tuple[Expression, ...]]:
        covered: list[z3.BoolRef] = []
        while (machine := find_machine(self.formula, *covered)) is not None:
            cube = self._shortened(self._cube(machine))
            covered.append(_as_bool(z3.Not(to_z3(conjunction_of(cube)))))
            yield cube

    def _cube(self, machine: z3.ModelRef) -> list[Expression]:
        """The literals that hold on this machine, the most telling last to be dropped."""
        holding = []
        for literal in self.literals:
            value = machine.eval(to_z3(literal), model_completion=True)
            holding.append(literal if z3.is_true(value) else opposite(literal))
        return holding

    def _shortened(self, cube: list[Expression]) -> tuple[Expression, ...]:
        """Drop literals, negated ones first, as long as the rest implies the formula."""
        outside = _as_bool(z3.Not(self.formula))
        # Denials go first, so that what stays says what a machine has.
        for literal in sorted(cube, key=is_positive):
            rest = [kept for kept in cube if kept is not literal]
            if find_machine(to_z3(conjunction_of(rest)), outside) is None:
                cube = rest
        return tuple(cube)


def condition_where(left: Expression, right: Expression) -> Expression | None:
    """Where `left` holds and `right` does not, as a readable condition; None if nowhere."""
    formula = _as_bool(z3.And(to_z3(left), z3.Not(to_z3(right))))
    # Sorted, as z3 finds machines in an order of its own.
    cubes = sorted(_Cubes(formula, literals(left, right)), key=_shortest_first)
    return disjunction_of(map(conjunction_of, cubes)) if cubes else None


def _shortest_first(cube: tuple[Expression, ...]) -> tuple[int, list[tuple[int, str]]]:
    return (len(cube), [rank(literal) for literal in cube])

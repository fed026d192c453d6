# SPDX-License-Identifier: GPL-2.0-or-later
"""Literals: an atom or a comparison, as it is or denied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from staleline.policy.atoms import atoms
from staleline.policy.expression import (
    AllOf,
    AnyOf,
    AtomIs,
    Comparison,
    Expression,
    Negation,
    Operator,
    TruthValue,
)

__all__ = [
    "conjunction_of",
    "disjunction_of",
    "is_positive",
    "literals",
    "opposite",
    "rank",
    "substitute",
]

_OPPOSITES = {
    Operator.EQ: Operator.NE,
    Operator.NE: Operator.EQ,
    Operator.GE: Operator.LT,
    Operator.LT: Operator.GE,
    Operator.GT: Operator.LE,
    Operator.LE: Operator.GT,
}


def opposite(literal: Expression) -> Expression:
    """The literal that holds where this one does not."""
    if isinstance(literal, Comparison):
        return Comparison(literal.name, _OPPOSITES[literal.operator], literal.literal)
    return literal.operand if isinstance(literal, Negation) else Negation(literal)


def is_positive(literal: Expression) -> bool:
    """Does it say what a machine has, rather than what it lacks?"""
    if isinstance(literal, Comparison):
        return literal.operator not in {Operator.NE, Operator.LT, Operator.LE}
    return not isinstance(literal, Negation)


def rank(literal: Expression) -> tuple[int, str]:
    """Sorts literals in the order of the vocabulary, vendors first."""
    plain = literal.operand if isinstance(literal, Negation) else literal
    assert isinstance(plain, AtomIs | Comparison)
    return (list(atoms()).index(plain.name), str(plain))


def literals(*expressions: Expression) -> tuple[Expression, ...]:
    """Every atom or comparison that occurs, once, in order of first occurrence."""
    found: dict[Expression, None] = {}
    for expression in expressions:
        _collect(expression, found)
    return tuple(found)


def _collect(expression: Expression, found: dict[Expression, None]) -> None:
    match expression:
        case AtomIs() | Comparison():
            found[expression] = None
        case Negation(operand):
            _collect(operand, found)
        case AllOf(operands) | AnyOf(operands):
            for operand in operands:
                _collect(operand, found)
        case _:
            assert isinstance(expression, TruthValue), "attributes are expanded before"


def conjunction_of(parts: Iterable[Expression]) -> Expression:
    """The conjunction of any number of expressions."""
    operands = tuple(parts)
    if len(operands) == 1:
        return operands[0]
    return AllOf(operands) if operands else TruthValue(True)


def disjunction_of(parts: Iterable[Expression]) -> Expression:
    """The disjunction of any number of expressions."""
    operands = tuple(parts)
    if len(operands) == 1:
        return operands[0]
    return AnyOf(operands) if operands else TruthValue(False)


def substitute(expression: Expression, meanings: Mapping[Expression, Expression]) -> Expression:
    """Replace literals by what they stand for."""
    match expression:
        case Negation(operand):
            return Negation(substitute(operand, meanings))
        case AllOf(operands):
            return AllOf(tuple(substitute(operand, meanings) for operand in operands))
        case AnyOf(operands):
            return AnyOf(tuple(substitute(operand, meanings) for operand in operands))
        case _:
            return meanings.get(expression, expression)

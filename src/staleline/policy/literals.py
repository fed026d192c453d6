# SPDX-License-Identifier: GPL-2.0-or-later
"""Literals: an atom or a comparison, as it is or denied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from staleline.policy.atoms import atoms
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
    nodes_of,
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
        # A leaf number below a bound is a leaf that is not there.
        return literal.operator not in {Operator.NE, Operator.LT, Operator.LE}
    return not isinstance(literal, Negation)


def rank(literal: Expression) -> tuple[int, str]:
    """Sorts literals in the order of the vocabulary, vendors first."""
    plain = literal.operand if isinstance(literal, Negation) else literal
    assert isinstance(plain, AtomIs | Comparison)
    return (list(atoms()).index(plain.name), str(plain))


def literals(*expressions: Expression) -> tuple[Expression, ...]:
    """Every atom or comparison that occurs, once, in order of first occurrence."""
    nodes = [node for expression in expressions for node in nodes_of(expression)]
    assert not any(isinstance(node, Attribute) for node in nodes), "they are expanded before"
    return tuple(dict.fromkeys(node for node in nodes if isinstance(node, AtomIs | Comparison)))


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

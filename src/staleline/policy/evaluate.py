# SPDX-License-Identifier: GPL-2.0-or-later
"""Three-valued evaluation (Kleene): unknown stays unknown unless it cannot matter.

>>> from staleline.policy.expression import parse
>>> evaluate(parse("hypervisor and sme_supported"), {"hypervisor": False})
False
>>> evaluate(parse("hypervisor or sme_supported"), {"hypervisor": False}) is None
True
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, assert_never

from staleline.policy.atoms import AtomValue
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

__all__ = ["COMPARE", "evaluate"]

#: What each comparison operator does to a value and a literal, or to a column and one.
COMPARE: Mapping[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.GE: operator.ge,
    Operator.GT: operator.gt,
    Operator.LE: operator.le,
    Operator.LT: operator.lt,
}


def evaluate(expression: Expression, values: Mapping[str, AtomValue]) -> bool | None:
    """The value of an attribute-free expression.

    Args:
        expression: Without ``cc(NAME)``; see `expression.expand`.
        values: Atom name -> value; absent and None mean unknown.

    Returns:
        True, False, or None where the unknown atoms could make it either.
    """
    match expression:
        case TruthValue(value):
            return value
        case AtomIs(name):
            known = values.get(name)
            return None if known is None else bool(known)
        case Comparison(name, comparison, literal):
            known = values.get(name)
            return None if known is None else bool(COMPARE[comparison](known, literal))
        case Negation(operand):
            inner = evaluate(operand, values)
            return None if inner is None else not inner
        case AllOf(operands):
            return _strongest((evaluate(operand, values) for operand in operands), False)
        case AnyOf(operands):
            return _strongest((evaluate(operand, values) for operand in operands), True)
        case Attribute(name):
            raise ValueError(f"cc({name}) was not expanded")
        case _:
            assert_never(expression)


def _strongest(operands: Iterable[bool | None], decisive: bool) -> bool | None:
    """The decisive value if any operand has it; unknown if any is unknown; else the other."""
    values = set(operands)
    # Before unknown: what is false whatever the rest may be is not open.
    if decisive in values:
        return decisive
    return None if None in values else not decisive

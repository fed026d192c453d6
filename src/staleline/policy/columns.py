# SPDX-License-Identifier: GPL-2.0-or-later
"""Three-valued evaluation over columns: one value per machine, many machines at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from staleline.policy.atoms import AtomValue
from staleline.policy.evaluate import COMPARE
from staleline.policy.expression import (
    AllOf,
    AnyOf,
    AtomIs,
    Attribute,
    Comparison,
    Expression,
    Negation,
    TruthValue,
)

__all__ = ["Column", "TruthColumn", "evaluate_columns"]

#: One value per row.
Column = Sequence[AtomValue] | NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class TruthColumn:
    """One truth value per row; where both arrays hold, the value is unknown."""

    can_be_true: NDArray[np.bool_]
    can_be_false: NDArray[np.bool_]

    def values(self) -> Iterator[bool | None]:
        """The rows as True, False or None."""
        for true, false in zip(self.can_be_true, self.can_be_false, strict=True):
            yield None if true and false else bool(true)


def evaluate_columns(
    expression: Expression, columns: Mapping[str, Column], rows: int
) -> TruthColumn:
    """Evaluate an attribute-free expression for every row.

    Args:
        expression: Without ``cc(NAME)``; see `expression.expand`.
        columns: Atom name -> one value per row; a missing column and None mean unknown.
        rows: Number of rows.
    """
    match expression:
        case TruthValue(value):
            return _constant(value, rows)
        case AtomIs(name):
            return _observed(columns.get(name), rows, lambda known: known.astype(bool))
        case Comparison(name, comparison, literal):
            compare = COMPARE[comparison]
            return _observed(columns.get(name), rows, lambda known: compare(known, literal))
        case Negation(operand):
            # Of what can be true and what can be false, Kleene's connectives are plain array
            # operations.
            inner = evaluate_columns(operand, columns, rows)
            return TruthColumn(inner.can_be_false, inner.can_be_true)
        case AllOf(operands):
            parts = [evaluate_columns(operand, columns, rows) for operand in operands]
            return TruthColumn(
                reduce(np.logical_and, (part.can_be_true for part in parts)),
                reduce(np.logical_or, (part.can_be_false for part in parts)),
            )
        case AnyOf(operands):
            parts = [evaluate_columns(operand, columns, rows) for operand in operands]
            return TruthColumn(
                reduce(np.logical_or, (part.can_be_true for part in parts)),
                reduce(np.logical_and, (part.can_be_false for part in parts)),
            )
        case Attribute(name):
            raise ValueError(f"cc({name}) was not expanded")
        case _:
            assert_never(expression)


def _constant(value: bool, rows: int) -> TruthColumn:
    return TruthColumn(np.full(rows, value), np.full(rows, not value))


def _observed(
    column: Column | None,
    rows: int,
    holds: Callable[[NDArray[Any]], NDArray[np.bool_]],
) -> TruthColumn:
    if column is None:
        return TruthColumn(np.full(rows, True), np.full(rows, True))
    # An array that is not of objects has no None to be looked for: the grid's have none.
    if isinstance(column, np.ndarray) and column.dtype != object:
        true = holds(column)
        return TruthColumn(true, ~true)
    values = np.asarray(column, dtype=object)
    unknown = np.asarray([value is None for value in values], dtype=bool)
    can_be_true = unknown.copy()
    can_be_false = unknown.copy()
    known = ~unknown
    # Compared without the unknown ones: None has no order.
    if known.any():
        true = np.asarray(holds(np.asarray(values[known].tolist())), dtype=bool)
        can_be_true[known] = true
        can_be_false[known] = ~true
    return TruthColumn(can_be_true, can_be_false)

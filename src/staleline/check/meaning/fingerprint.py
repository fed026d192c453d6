# SPDX-License-Identifier: GPL-2.0-or-later
"""A hash of what a model means, to tell whether a proof or a trace is about this model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from staleline.model.form import (
    Action,
    All,
    And,
    Any,
    Assign,
    Constant,
    Expr,
    Model,
    Not,
    OneOf,
    Or,
    Ref,
    Variable,
)

__all__ = ["fingerprint"]

#: Nested lists of strings: the same text for the same meaning, on every run.
_Canonical = list["str | _Canonical"]


def fingerprint(model: Model) -> str:
    """``sha256:`` and the hash of the variables, actions, properties and goal."""
    # Names count, because traces and certificates use them. Sentences and sources do not.
    meaning: _Canonical = [
        [_variable(one) for one in model.globals],
        [_variable(one) for one in model.locals],
        [_action(one) for one in model.actions],
        [[one.name, _expr(one.violated)] for one in model.properties],
        [model.goal_name, _expr(model.goal)],
    ]
    text = json.dumps(meaning, ensure_ascii=False, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _variable(variable: Variable) -> _Canonical:
    return [variable.name, *map(str, variable.domain)]


def _action(action: Action) -> _Canonical:
    return [
        action.name,
        str(action.actor),
        _expr(action.guard),
        [_assign(one) for one in action.assigns],
    ]


def _assign(assign: Assign) -> _Canonical:
    return [*_ref(assign.target), assign.value]


def _ref(ref: Ref) -> tuple[str, str]:
    return str(ref.whose), str(ref.name)


def _expr(expr: Expr) -> _Canonical:
    match expr:
        case Constant(value):
            return ["true" if value else "false"]
        case OneOf(ref, values):
            return ["in", *_ref(ref), *sorted(values)]
        case Not(operand):
            return ["not", _expr(operand)]
        case And(operands):
            return ["and", *_all(operands)]
        case Or(operands):
            return ["or", *_all(operands)]
        case All(body):
            return ["all", _expr(body)]
        case Any(body):
            return ["any", _expr(body)]
    raise TypeError(f"not an expression of the form: {expr!r}")


def _all(operands: Iterable[Expr]) -> list[_Canonical]:
    return [_expr(operand) for operand in operands]

# SPDX-License-Identifier: GPL-2.0-or-later
"""Expressions of the form as Python closures over tuples of values."""

from __future__ import annotations

from collections.abc import Callable

from staleline.model.form import All, And, Any, Constant, Expr, Model, Not, OneOf, Or, Ref, Whose

__all__ = ["Closures", "Locals", "Seen", "Test", "Values"]

#: The values of the globals, or of one secondary's locals, in the model's order.
Values = tuple[str, ...]
Locals = tuple[Values, ...]
#: What a test looks at: globals, own locals, locals of the one that a quantifier is at; the
#: others, for `All`; the others, for `Any` (`views` knows only some of the former).
Seen = tuple[Values, Values, Values, Locals, Locals]
Test = Callable[[Seen], bool]

#: Where `Seen` has the values of a variable.
_PLACE = {Whose.GLOBAL: 0, Whose.OWN: 1, Whose.EACH: 2}


class Closures:
    """Builds the tests of one model."""

    def __init__(self, model: Model) -> None:
        shared = {variable.name: index for index, variable in enumerate(model.globals)}
        local = {variable.name: index for index, variable in enumerate(model.locals)}
        self._indices = {Whose.GLOBAL: shared, Whose.OWN: local, Whose.EACH: local}

    def index(self, ref: Ref) -> int:
        """Position of a variable among the globals or among the locals."""
        return self._indices[ref.whose][ref.name]

    def test(self, expr: Expr) -> Test:
        """An expression as a closure."""
        match expr:
            case Constant(value):
                return lambda _: value
            case OneOf(ref, values):
                return _member(_PLACE[ref.whose], self.index(ref), values)
            case Not(operand):
                test = self.test(operand)
                return lambda seen: not test(seen)
            case And(operands):
                return _conjunction([self.test(part) for part in operands])
            case Or(operands):
                return _disjunction([self.test(part) for part in operands])
            case All(body):
                inner = self.test(body)
                return lambda seen: all(inner((*seen[:2], one, (), ())) for one in seen[3])
            case Any(body):
                inner = self.test(body)
                return lambda seen: any(inner((*seen[:2], one, (), ())) for one in seen[4])
        raise TypeError(f"not an expression of the form: {expr!r}")


def _member(place: int, index: int, values: frozenset[str]) -> Test:
    return lambda seen: seen[place][index] in values


def _conjunction(tests: list[Test]) -> Test:
    def conjunction(seen: Seen) -> bool:
        for test in tests:  # noqa: SIM110 - a generator costs twice as much here
            if not test(seen):
                return False
        return True

    return conjunction


def _disjunction(tests: list[Test]) -> Test:
    def disjunction(seen: Seen) -> bool:
        for test in tests:  # noqa: SIM110 - a generator costs twice as much here
            if test(seen):
                return True
        return False

    return disjunction

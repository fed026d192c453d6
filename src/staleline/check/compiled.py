# SPDX-License-Identifier: GPL-2.0-or-later
"""A model as Python closures over tuples, for the search.

Actions are filed under the values of the first global and the first local variable that
their guards allow (the places of the CPUs), so that few guards are tried in a state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from staleline.check.interpreter import State
from staleline.model.form import (
    Action,
    Actor,
    All,
    And,
    Any,
    Constant,
    Expr,
    Member,
    Model,
    Not,
    Or,
    Ref,
    Whose,
)

__all__ = ["CompiledModel"]

Values = tuple[str, ...]
#: What a test looks at: globals, own locals, locals of the one that a quantifier is at,
#: locals of the others.
Seen = tuple[Values, Values, Values, tuple[Values, ...]]
Test = Callable[[Seen], bool]
Change = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One action: its guard and its assignments by target."""

    guard: Test
    shared: Change
    own: Change
    each: Change


class CompiledModel:
    """Successors and truth of expressions in a model's states."""

    def __init__(self, model: Model) -> None:
        self._indices = {
            **{(Whose.GLOBAL, v.name): i for i, v in enumerate(model.globals)},
            **{(Whose.OWN, v.name): i for i, v in enumerate(model.locals)},
            **{(Whose.EACH, v.name): i for i, v in enumerate(model.locals)},
        }
        self._model = model
        self._jumping = self._file(Actor.JUMPING)
        self._secondary = self._file(Actor.SECONDARY)

    def truth(self, expr: Expr) -> Callable[[State], bool]:
        """An expression over whole states, e.g. a property."""
        test = self._test(expr)
        return lambda state: test((state[0], (), (), state[1]))

    def successors(self, state: State, *, symmetry: bool) -> Iterator[State]:
        """The states after one move.

        Args:
            state: The state; with symmetry, its secondaries are sorted.
            symmetry: Sort the secondaries of every successor, and move only one of several
                secondaries that are in the same local state.
        """
        shared, locals_ = state
        for after, others in _moved(self._jumping[shared[0], ""], shared, (), locals_):
            yield after[0], tuple(sorted(others)) if symmetry else others
        for i, own in enumerate(locals_):
            if symmetry and i and own == locals_[i - 1]:
                continue
            rest = (*locals_[:i], *locals_[i + 1 :])
            for (after_shared, after_own), others in _moved(
                self._secondary[shared[0], own[0]], shared, own, rest
            ):
                ordered = (*others[:i], after_own, *others[i:])
                yield after_shared, tuple(sorted(ordered)) if symmetry else ordered

    def _file(self, actor: Actor) -> dict[tuple[str, str], list[_Step]]:
        shared, local = self._model.globals[0], self._model.locals[0]
        own_places = local.domain if actor is Actor.SECONDARY else ("",)
        filed: dict[tuple[str, str], list[_Step]] = {
            key: [] for key in product(shared.domain, own_places)
        }
        for action in self._model.actions:
            if action.actor is actor:
                step = self._step(action)
                at = _allowed(action.guard, Ref(Whose.GLOBAL, shared.name), shared.domain)
                own = _allowed(action.guard, Ref(Whose.OWN, local.name), own_places)
                for key in product(at, own):
                    filed[key].append(step)
        return filed

    def _step(self, action: Action) -> _Step:
        changes: dict[Whose, list[tuple[int, str]]] = {whose: [] for whose in Whose}
        for assign in action.assigns:
            changes[assign.target.whose].append((self._index(assign.target), assign.value))
        return _Step(
            self._test(action.guard),
            tuple(changes[Whose.GLOBAL]),
            tuple(changes[Whose.OWN]),
            tuple(changes[Whose.EACH]),
        )

    def _index(self, ref: Ref) -> int:
        return self._indices[ref.whose, ref.name]

    def _test(self, expr: Expr) -> Test:
        match expr:
            case Constant(value):
                return lambda _: value
            case Member(ref, values):
                return _member(_PLACE[ref.whose], self._index(ref), values)
            case Not(operand):
                test = self._test(operand)
                return lambda seen: not test(seen)
            case And(operands):
                return _conjunction([self._test(part) for part in operands])
            case Or(operands):
                return _disjunction([self._test(part) for part in operands])
            case All(body):
                inner = self._test(body)
                return lambda seen: all(inner((*seen[:2], one, ())) for one in seen[3])
            case Any(body):
                inner = self._test(body)
                return lambda seen: any(inner((*seen[:2], one, ())) for one in seen[3])
        raise TypeError(f"not an expression of the form: {expr!r}")


#: Where `Seen` has the values of a variable.
_PLACE = {Whose.GLOBAL: 0, Whose.OWN: 1, Whose.EACH: 2}


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


def _allowed(guard: Expr, ref: Ref, domain: Values) -> list[str]:
    """The values of a variable with which a guard can hold."""
    return [value for value in domain if _may_hold(guard, ref, value)]


def _may_hold(guard: Expr, ref: Ref, value: str) -> bool:
    """Can the guard hold if a variable has this value? True where that is not plain."""
    match guard:
        case Member(tested, values):
            return tested != ref or value in values
        case Not(Member(tested, values)):
            return tested != ref or value not in values
        case And(operands):
            return all(_may_hold(part, ref, value) for part in operands)
        case Or(operands):
            return any(_may_hold(part, ref, value) for part in operands)
    return True


def _moved(
    steps: list[_Step], shared: Values, own: Values, others: tuple[Values, ...]
) -> Iterator[tuple[tuple[Values, Values], tuple[Values, ...]]]:
    seen: Seen = (shared, own, (), others)
    for step in steps:
        if step.guard(seen):
            after = _changed(shared, step.shared), _changed(own, step.own)
            yield after, _each_changed(others, step.each)


def _changed(values: Values, change: Change) -> Values:
    if not change:
        return values
    after = list(values)
    for index, value in change:
        after[index] = value
    return tuple(after)


def _each_changed(others: tuple[Values, ...], change: Change) -> tuple[Values, ...]:
    return tuple(_changed(one, change) for one in others) if change else others

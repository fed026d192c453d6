# SPDX-License-Identifier: GPL-2.0-or-later
"""A model as tables of moves, for the search and for views.

Globals and locals are numbered as they turn up, so that a state is a short tuple of small
integers. A guard without quantifiers depends only on the globals and the acting secondary:
the moves of each such pair are worked out once. Actions are filed under the values of the
first global and the first local variable that their guards allow (the places of the CPUs),
so that few guards are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from staleline.check.closures import Closures, Locals, Test, Values
from staleline.check.interpreter import State, initial
from staleline.model.form import (
    Action,
    Actor,
    All,
    And,
    Any,
    Expr,
    Member,
    Model,
    Not,
    Or,
    Ref,
    Whose,
)

__all__ = ["JUMPING", "CompiledModel", "IdState"]

#: Number of the globals, then of the locals of each secondary.
IdState = tuple[int, ...]

#: In place of a secondary's locals: the jumping CPU moves.
JUMPING = -1

_Change = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One action: its guard and its assignments by target."""

    guard: Test
    quantified: bool
    shared: _Change
    own: _Change
    each: _Change


@dataclass(frozen=True, slots=True)
class _Move:
    """What an action makes of the globals and the acting secondary, and does to the others."""

    shared: int
    own: int
    each: _Change


class _Numbered:
    """Values and their numbers, in order of appearance."""

    def __init__(self) -> None:
        self.values: list[Values] = []
        self._numbers: dict[Values, int] = {}

    def number(self, values: Values) -> int:
        number = self._numbers.setdefault(values, len(self.values))
        if number == len(self.values):
            self.values.append(values)
        return number


class CompiledModel:
    """Successors and truth of expressions in a model's states."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._closures = Closures(model)
        self._shared = _Numbered()
        self._locals = _Numbered()
        self._steps = {actor: self._filed(actor) for actor in Actor}
        self._moves: dict[tuple[int, int], tuple[list[_Move], list[_Step]]] = {}
        self._changed: dict[tuple[int, _Change], int] = {}

    def initial(self, secondaries: int) -> IdState:
        """The initial state."""
        shared, locals_ = initial(self._model, secondaries)
        return (self._shared.number(shared), *map(self._locals.number, locals_))

    def state(self, state: IdState) -> State:
        """A state's values."""
        return self._shared.values[state[0]], self._local_values(state[1:])

    def truth(self, expr: Expr) -> Callable[[IdState], bool]:
        """An expression over whole states, e.g. a property."""
        if _is_pairwise(expr):
            return self._pairwise(expr)
        return self.truth_in_view(expr, lambda state: state[1:])

    def truth_in_view(
        self, expr: Expr, witnesses: Callable[[IdState], tuple[int, ...]]
    ) -> Callable[[IdState], bool]:
        """An expression over states of which only some secondaries are known.

        Args:
            expr: The expression.
            witnesses: Locals of the secondaries that there may be, for `Any`.
        """
        test = self._closures.test(expr)
        return lambda state: test(
            (
                self._shared.values[state[0]],
                (),
                (),
                self._local_values(state[1:]),
                self._local_values(witnesses(state)),
            )
        )

    def _pairwise(self, expr: Expr) -> Callable[[IdState], bool]:
        """A test that looks at the globals with one secondary at a time, and once at each."""
        test = self.truth_in_view(expr, lambda state: state[1:])
        known: dict[IdState, bool] = {}

        def holds(state: IdState) -> bool:
            shared = state[0]
            pairs: list[IdState] = [(shared, local) for local in state[1:]]
            for pair in pairs or [(shared,)]:
                if pair not in known:
                    known[pair] = test(pair)
                if known[pair]:
                    return True
            return False

        return holds

    def successors(self, state: IdState, *, symmetry: bool) -> Iterator[IdState]:
        """The states after one move; secondaries move first, so that runs tell of them early.

        Args:
            state: The state; with symmetry, its secondaries are sorted.
            symmetry: Sort the secondaries of every successor, and move only one of several
                secondaries that are in the same local state.
        """
        shared, *rest = state
        locals_ = tuple(rest)
        for i, own in enumerate(locals_):
            if symmetry and i and own == locals_[i - 1]:
                continue
            for after, after_own, others in self.moves(shared, own, locals_[:i] + locals_[i + 1 :]):
                ordered = (*others[:i], after_own, *others[i:])
                yield (after, *(sorted(ordered) if symmetry else ordered))
        for after, _, others in self.moves(shared, JUMPING, locals_):
            yield (after, *(sorted(others) if symmetry else others))

    def moves(
        self, shared: int, own: int, others: tuple[int, ...]
    ) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """The moves of one CPU, as globals, own locals and locals of the others after them.

        Args:
            shared: The globals.
            own: Locals of the secondary that moves, or `JUMPING`.
            others: Locals of the others.
        """
        tabled = self._moves.get((shared, own))
        if tabled is None:
            tabled = self._moves[shared, own] = self._table(shared, own)
        for move in tabled[0]:
            yield move.shared, move.own, self._each(others, move.each)
        for step in tabled[1]:
            if self._holds(step, shared, own, others):
                move = self._taken(step, shared, own)
                yield move.shared, move.own, self._each(others, move.each)

    def _table(self, shared: int, own: int) -> tuple[list[_Move], list[_Step]]:
        """The moves of a pair that depend on nothing else, and the steps that do."""
        actor = Actor.JUMPING if own == JUMPING else Actor.SECONDARY
        place = "" if own == JUMPING else self._locals.values[own][0]
        steps = self._steps[actor][self._shared.values[shared][0], place]
        moves = [
            self._taken(step, shared, own)
            for step in steps
            if not step.quantified and self._holds(step, shared, own, ())
        ]
        return moves, [step for step in steps if step.quantified]

    def _holds(self, step: _Step, shared: int, own: int, others: tuple[int, ...]) -> bool:
        known = self._local_values(others)
        return step.guard((self._shared.values[shared], self._own(own), (), known, known))

    def _taken(self, step: _Step, shared: int, own: int) -> _Move:
        after = self._shared.number(_assigned(self._shared.values[shared], step.shared))
        if own == JUMPING:
            return _Move(after, JUMPING, step.each)
        return _Move(after, self._locals.number(_assigned(self._own(own), step.own)), step.each)

    def _each(self, others: tuple[int, ...], change: _Change) -> tuple[int, ...]:
        return tuple(self._change(other, change) for other in others) if change else others

    def _change(self, local: int, change: _Change) -> int:
        after = self._changed.get((local, change))
        if after is None:
            after = self._locals.number(_assigned(self._locals.values[local], change))
            self._changed[local, change] = after
        return after

    def _own(self, own: int) -> Values:
        return () if own == JUMPING else self._locals.values[own]

    def _local_values(self, locals_: tuple[int, ...]) -> Locals:
        return tuple(self._locals.values[local] for local in locals_)

    def _filed(self, actor: Actor) -> dict[tuple[str, str], list[_Step]]:
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
            index = self._closures.index(assign.target)
            changes[assign.target.whose].append((index, assign.value))
        return _Step(
            self._closures.test(action.guard),
            _is_quantified(action.guard),
            tuple(changes[Whose.GLOBAL]),
            tuple(changes[Whose.OWN]),
            tuple(changes[Whose.EACH]),
        )


def _assigned(values: Values, change: _Change) -> Values:
    after = list(values)
    for index, value in change:
        after[index] = value
    return tuple(after)


def _is_quantified(expr: Expr) -> bool:
    match expr:
        case All() | Any():
            return True
        case And(operands) | Or(operands):
            return any(_is_quantified(operand) for operand in operands)
    return False


def _is_pairwise(expr: Expr) -> bool:
    """Does it hold if and only if it holds with some secondary, or with none, alone?"""
    match expr:
        case All():
            return False
        case Any(body):
            return not _is_quantified(body)
        case Or(operands):
            return all(_is_pairwise(operand) for operand in operands)
        case And(operands):
            quantified = [operand for operand in operands if _is_quantified(operand)]
            return len(quantified) < 2 and all(_is_pairwise(one) for one in quantified)
    return True


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

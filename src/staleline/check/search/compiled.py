# SPDX-License-Identifier: GPL-2.0-or-later
"""A model as tables of moves, for the search and for views.

Globals and locals are numbered as they turn up, so that a state is a short tuple of small
integers. Most of a guard is about the globals alone or about the acting secondary alone, and is
asked once of each of them rather than of each pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from staleline.check.meaning.closures import Closures, Locals, Seen, Test, Values
from staleline.check.meaning.interpreter import State, initial
from staleline.model.form import (
    Action,
    Actor,
    All,
    And,
    Any,
    Constant,
    Expr,
    Model,
    Not,
    OneOf,
    Or,
    Whose,
    all_of,
)

__all__ = ["JUMPING", "CompiledModel", "IdState"]

#: Number of the globals, then of the locals of each secondary.
IdState = tuple[int, ...]

#: In place of a secondary's locals: the jumping CPU moves.
JUMPING = -1

#: Given a state, locals of the secondaries that there may be beside those it shows.
Witnesses = Callable[[IdState], tuple[int, ...]]

_Change = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One action: what its guard asks of whom, and its assignments by target."""

    of_shared: Test
    of_own: Test
    of_both: Test | None
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


@dataclass(frozen=True, slots=True)
class _Table:
    """The moves of one CPU: all; those that others notice; steps with quantified guards."""

    moves: list[_Move]
    interfering: list[_Move]
    quantified: list[_Step]


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


def _secondaries(state: IdState) -> tuple[int, ...]:
    return state[1:]


class CompiledModel:
    """Successors and truth of expressions in a model's states."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._closures = Closures(model)
        self._shared = _Numbered()
        self._locals = _Numbered()
        self._steps = {
            actor: [self._step(action) for action in model.actions if action.actor is actor]
            for actor in Actor
        }
        self._allowed: dict[tuple[Actor, Whose, int], int] = {}
        self._tables: dict[tuple[int, int], _Table] = {}
        self._changed: dict[tuple[int, _Change], int] = {}

    def initial(self, secondaries: int) -> IdState:
        """The initial state."""
        shared, locals_ = initial(self._model, secondaries)
        return (self._shared.number(shared), *map(self._locals.number, locals_))

    def state(self, state: IdState) -> State:
        """A state's values."""
        return self._shared.values[state[0]], self._local_values(state[1:])

    def globally(self, expr: Expr) -> Callable[[int], bool]:
        """An expression without quantifiers, e.g. the model's goal, over globals."""
        test = self._closures.test(expr)
        return lambda shared: test((self._shared.values[shared], (), (), (), ()))

    def first_violation(
        self, witnesses: Witnesses = _secondaries
    ) -> Callable[[IdState], str | None]:
        """The name of the first property that a state breaks, or None.

        Args:
            witnesses: Locals of the secondaries that there may be, for `Any`.
        """
        # Mostly so; then each pair of globals and one secondary is asked once, in however many
        # states it is.
        pairwise = all(_is_pairwise(item.violated) for item in self._model.properties)
        possible = _secondaries if pairwise else witnesses
        tests = [
            (item.name, self._truth(item.violated, possible)) for item in self._model.properties
        ]

        def named(state: IdState) -> str | None:
            return next((name for name, broken in tests if broken(state)), None)

        return _at_pairs(named) if pairwise else named

    def _truth(self, expr: Expr, witnesses: Witnesses) -> Callable[[IdState], bool]:
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
        tabled = self._tabled(shared, own)
        for move in tabled.moves:
            yield move.shared, move.own, self._each(others, move.each)
        for step in tabled.quantified:
            if self._holds(step, shared, own, others):
                move = self._taken(step, shared, own)
                yield move.shared, move.own, self._each(others, move.each)

    def interference(self, shared: int, mover: int, bystander: int) -> Iterator[tuple[int, int]]:
        """What a secondary's move makes of the globals and of another one's locals."""
        tabled = self._tabled(shared, mover)
        for move in tabled.interfering:
            yield move.shared, self._change(bystander, move.each)
        for step in tabled.quantified:
            if self._holds(step, shared, mover, (bystander,)):
                move = self._taken(step, shared, mover)
                yield move.shared, self._change(bystander, move.each)

    def _tabled(self, shared: int, own: int) -> _Table:
        """The moves of a pair that depend on nothing else, and the steps that do."""
        # A guard without quantifiers depends only on the globals and the acting CPU, so that the
        # moves of each such pair are worked out once.
        table = self._tables.get((shared, own))
        if table is None:
            table = self._tables[shared, own] = self._table(shared, own)
        return table

    def _table(self, shared: int, own: int) -> _Table:
        actor = Actor.JUMPING if own == JUMPING else Actor.SECONDARY
        allowed = self._allowed_by(actor, Whose.GLOBAL, shared)
        allowed &= self._allowed_by(actor, Whose.OWN, own)
        steps = [step for bit, step in enumerate(self._steps[actor]) if allowed >> bit & 1]
        moves = [
            self._taken(step, shared, own)
            for step in steps
            if not step.quantified and self._holds(step, shared, own, ())
        ]
        interfering = [move for move in moves if move.each or move.shared != shared]
        return _Table(moves, interfering, [step for step in steps if step.quantified])

    def _allowed_by(self, actor: Actor, whose: Whose, number: int) -> int:
        """A bit for each of an actor's steps: what is asked of these values alone holds."""
        allowed = self._allowed.get((actor, whose, number))
        if allowed is None:
            if whose is Whose.GLOBAL:
                seen: Seen = (self._shared.values[number], (), (), (), ())
                held = [step.of_shared(seen) for step in self._steps[actor]]
            else:
                seen = ((), self._own(number), (), (), ())
                held = [step.of_own(seen) for step in self._steps[actor]]
            allowed = sum(1 << bit for bit, holds in enumerate(held) if holds)
            self._allowed[actor, whose, number] = allowed
        return allowed

    def _holds(self, step: _Step, shared: int, own: int, others: tuple[int, ...]) -> bool:
        """What a step asks beside what its table has asked already."""
        if step.of_both is None:
            return True
        known = self._local_values(others)
        return step.of_both((self._shared.values[shared], self._own(own), (), known, known))

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

    def _step(self, action: Action) -> _Step:
        changes: dict[Whose, list[tuple[int, str]]] = {whose: [] for whose in Whose}
        for assign in action.assigns:
            index = self._closures.index(assign.target)
            changes[assign.target.whose].append((index, assign.value))
        parts = action.guard.operands if isinstance(action.guard, And) else (action.guard,)
        asked = {
            whose: [part for part in parts if _whose(part) == whose]
            for whose in (Whose.GLOBAL, Whose.OWN, None)
        }
        both = asked[None]
        return _Step(
            self._closures.test(all_of(*asked[Whose.GLOBAL])),
            self._closures.test(all_of(*asked[Whose.OWN])),
            self._closures.test(all_of(*both)) if both else None,
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


def _at_pairs(named: Callable[[IdState], str | None]) -> Callable[[IdState], str | None]:
    """Ask of the globals with one secondary at a time, and only once of each pair."""
    known: dict[IdState, str | None] = {}

    def found(state: IdState) -> str | None:
        pairs: list[IdState] = [(state[0], local) for local in state[1:]]
        # Without secondaries there is no pair, and the globals are asked by themselves.
        for pair in pairs or [state]:
            if pair not in known:
                known[pair] = named(pair)
            if (name := known[pair]) is not None:
                return name
        return None

    return found


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
            # Two `Any` may have two witnesses, and neither of them would show the violation by
            # itself.
            return len(quantified) < 2 and all(_is_pairwise(one) for one in quantified)
    return True


def _whose(expr: Expr) -> Whose | None:
    """Whose variables an expression asks for, if it is one CPU's or the globals alone."""
    match expr:
        case Constant():
            return Whose.GLOBAL
        case OneOf(ref) | Not(OneOf(ref)):
            return ref.whose
        case And(operands) | Or(operands):
            asked = {_whose(operand) for operand in operands}
            return asked.pop() if len(asked) == 1 else None
    return None

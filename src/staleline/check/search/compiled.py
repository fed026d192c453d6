# SPDX-License-Identifier: GPL-2.0-or-later
"""A model as tables of moves, for the search and for views."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

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
    one_by_one: bool
    shared: _Change
    own: _Change
    each: _Change


@dataclass(frozen=True, slots=True)
class _Move:
    """What an action makes of the globals and the acting secondary, and does to the others."""

    shared: int
    own: int
    each: _Change


class _Conditional:
    """A step of one CPU whose guard asks for the other secondaries."""

    __slots__ = ("_known", "_move", "_own", "_shared", "_step")

    def __init__(self, step: _Step, shared: int, own: int) -> None:
        self._step, self._shared, self._own = step, shared, own
        self._known: dict[IdState, bool] = {}
        self._move: _Move | None = None

    def move(self, model: CompiledModel, others: IdState) -> _Move | None:
        """What it does where others have these locals; None where it cannot be taken."""
        # Where each can be asked alone, pairs of locals are all that there is to know.
        asked = [(one,) for one in others] if self._step.one_by_one and others else [others]
        known = self._known
        for ones in asked:
            holds = known.get(ones)
            if holds is None:
                holds = known[ones] = model.holds(self._step, self._shared, self._own, ones)
            if not holds:
                return None
        if self._move is None:
            self._move = model.taken(self._step, self._shared, self._own)
        return self._move


@dataclass(frozen=True, slots=True)
class _Table:
    """The moves of one CPU: all; those that others notice; those that depend on the others."""

    moves: list[_Move]
    interfering: list[_Move]
    conditional: list[_Conditional]

    @property
    def disturbs(self) -> bool:
        """May others notice a move?"""
        return bool(self.interfering or self.conditional)


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
        # Numbered as they turn up, so that a state is a short tuple of small integers.
        self._shared = _Numbered()
        self._locals = _Numbered()
        self._steps = {
            actor: [self._step(action) for action in model.actions if action.actor is actor]
            for actor in Actor
        }
        self._allowed: dict[tuple[Actor, Whose, int], int] = {}
        self._possible_steps: dict[tuple[Actor, int], tuple[list[_Step], list[_Step]]] = {}
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
        if self._violated_at_pairs is not None:
            return self._violated_at_pairs
        return self._named(witnesses)

    @cached_property
    def _violated_at_pairs(self) -> Callable[[IdState], str | None] | None:
        """None where a property cannot be asked of one secondary at a time."""
        # Mostly it can; then each pair of globals and one secondary is asked once, in however many
        # states it is.
        expressions = [item.violated for item in self._model.properties]
        pairwise = all(_is_asked_one_by_one(violated, Any) for violated in expressions)
        return _at_pairs(self._named(_secondaries)) if pairwise else None

    def _named(self, witnesses: Witnesses) -> Callable[[IdState], str | None]:
        tests = [(item.name, self._closures.test(item.violated)) for item in self._model.properties]

        def named(state: IdState) -> str | None:
            present, possible = state[1:], witnesses(state)
            known = self._local_values(present)
            others = known if possible == present else self._local_values(possible)
            seen = (self._shared.values[state[0]], (), (), known, others)
            for name, broken in tests:
                if broken(seen):
                    return name
            return None

        return named

    def successors(self, state: IdState, *, symmetry: bool) -> Iterator[IdState]:
        """The states after one move; secondaries move first, so that runs tell of them early.

        Args:
            state: The state; with symmetry, its secondaries are sorted.
            symmetry: Sort the secondaries of every successor, and move only one of several
                secondaries that are in the same local state.
        """
        shared, locals_ = state[0], state[1:]
        for i, own in enumerate(locals_):
            # Secondaries are interchangeable, so a state stands for all its permutations, and of
            # two in the same local state one has the moves of both.
            if symmetry and i and own == locals_[i - 1]:
                continue
            others = locals_[:i] + locals_[i + 1 :]
            for move in self._possible(shared, own, others):
                rest = self._each(others, move.each) if move.each else others
                if symmetry:
                    yield (move.shared, *sorted((move.own, *rest)))
                else:
                    yield (move.shared, *rest[:i], move.own, *rest[i:])
        for move in self._possible(shared, JUMPING, locals_):
            rest = self._each(locals_, move.each) if move.each else locals_
            yield (move.shared, *(sorted(rest) if symmetry else rest))

    def moves(
        self, shared: int, own: int, others: tuple[int, ...]
    ) -> list[tuple[int, int, tuple[int, ...]]]:
        """The moves of one CPU, as globals, own locals and locals of the others after them.

        Args:
            shared: The globals.
            own: Locals of the secondary that moves, or `JUMPING`.
            others: Locals of the others.
        """
        return [
            (move.shared, move.own, self._each(others, move.each) if move.each else others)
            for move in self._possible(shared, own, others)
        ]

    def _possible(self, shared: int, own: int, others: tuple[int, ...]) -> list[_Move]:
        """The moves of one CPU, as its table has them."""
        table = self._tables.get((shared, own)) or self._table(shared, own)
        if not table.conditional:
            return table.moves
        possible = [one.move(self, others) for one in table.conditional]
        return [*table.moves, *(move for move in possible if move is not None)]

    def between(self, shared: int, local: int, others: Iterable[int]) -> Iterator[tuple[int, int]]:
        """What moves of a secondary and of each other one make of globals and the other's locals.

        Args:
            shared: The globals.
            local: Locals of the secondary.
            others: Locals of the others, one after the other.
        """
        table = self._tables.get((shared, local)) or self._table(shared, local)
        for other in others:
            theirs = self._tables.get((shared, other)) or self._table(shared, other)
            if theirs.disturbs:
                yield from self._disturbance(theirs, local)
            if table.disturbs:
                yield from self._disturbance(table, other)

    def _disturbance(self, table: _Table, bystander: int) -> Iterator[tuple[int, int]]:
        for move in table.interfering:
            yield move.shared, self._change(bystander, move.each) if move.each else bystander
        for one in table.conditional:
            if (taken := one.move(self, (bystander,))) is not None:
                yield taken.shared, self._change(bystander, taken.each)

    def _table(self, shared: int, own: int) -> _Table:
        """The moves of a pair that depend on nothing else, and the steps that do."""
        # A guard without quantifiers depends only on the globals and the acting CPU, so that the
        # moves of each such pair are worked out once.
        actor = Actor.JUMPING if own == JUMPING else Actor.SECONDARY
        # Most of a guard is about the globals alone or about the acting secondary alone, and is
        # asked once of each of them rather than of each pair.
        allowed = self._allowed_by(actor, Whose.GLOBAL, shared)
        allowed &= self._allowed_by(actor, Whose.OWN, own)
        plain, quantified = self._parted(actor, allowed)
        moves = [
            self.taken(step, shared, own) for step in plain if self.holds(step, shared, own, ())
        ]
        table = self._tables[shared, own] = _Table(
            moves,
            [move for move in moves if move.each or move.shared != shared],
            [_Conditional(step, shared, own) for step in quantified],
        )
        return table

    def _parted(self, actor: Actor, allowed: int) -> tuple[list[_Step], list[_Step]]:
        """The steps of these bits: without quantifiers, and with them."""
        # Few sets of steps are ever possible at once.
        parted = self._possible_steps.get((actor, allowed))
        if parted is None:
            steps = [step for bit, step in enumerate(self._steps[actor]) if allowed >> bit & 1]
            parted = self._possible_steps[actor, allowed] = (
                [step for step in steps if not step.quantified],
                [step for step in steps if step.quantified],
            )
        return parted

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

    def holds(self, step: _Step, shared: int, own: int, others: IdState) -> bool:
        """What a step asks beside what its table has asked already."""
        if step.of_both is None:
            return True
        known = self._local_values(others)
        return step.of_both((self._shared.values[shared], self._own(own), (), known, known))

    def taken(self, step: _Step, shared: int, own: int) -> _Move:
        """What a step makes of the globals and of the locals of the one who takes it."""
        if step.shared:
            shared = self._shared.number(_assigned(self._shared.values[shared], step.shared))
        if step.own and own != JUMPING:
            own = self._locals.number(_assigned(self._locals.values[own], step.own))
        return _Move(shared, own, step.each)

    def _each(self, others: tuple[int, ...], change: _Change) -> tuple[int, ...]:
        return tuple([self._change(other, change) for other in others])

    def _change(self, local: int, change: _Change) -> int:
        after = self._changed.get((local, change))
        if after is None:
            after = self._locals.number(_assigned(self._locals.values[local], change))
            self._changed[local, change] = after
        return after

    def _own(self, own: int) -> Values:
        return () if own == JUMPING else self._locals.values[own]

    def _local_values(self, locals_: tuple[int, ...]) -> Locals:
        values = self._locals.values
        return tuple([values[local] for local in locals_])

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
            _is_asked_one_by_one(action.guard, All),
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
        shared = state[0]
        for local in state[1:]:
            pair = (shared, local)
            if pair not in known:
                known[pair] = named(pair)
            if (name := known[pair]) is not None:
                return name
        # Without secondaries there is no pair, and the globals are asked by themselves.
        return named(state) if len(state) == 1 else None

    return found


def _is_asked_one_by_one(expr: Expr, quantifier: type[All] | type[Any]) -> bool:
    """Does it hold of some, or of all, secondaries if it holds with some, or with each, alone?

    Where there are none it is asked as such.
    """
    match expr:
        case All(body) | Any(body):
            return isinstance(expr, quantifier) and not _is_quantified(body)
        case And(operands) | Or(operands):
            quantified = [operand for operand in operands if _is_quantified(operand)]
            # Two `Any` of a conjunction may have two witnesses, and neither of them would show the
            # violation by itself.
            joined = isinstance(expr, And if quantifier is All else Or)
            return (joined or len(quantified) < 2) and all(
                _is_asked_one_by_one(operand, quantifier) for operand in quantified
            )
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

# SPDX-License-Identifier: GPL-2.0-or-later
"""Exhaustive breadth-first search with symmetry, giving a shortest path to a violation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from staleline.check.meaning.interpreter import Move, State, initial, moves
from staleline.check.search.compiled import CompiledModel, IdState
from staleline.errors import ModelError
from staleline.model.form import Expr, Model

__all__ = ["STATE_LIMIT", "Found", "Reached", "Run", "explored", "replayed", "search"]

#: States that one search may visit unless told otherwise; about half a gigabyte.
STATE_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """An execution from the initial state.

    Attributes:
        states: The states, one more than moves.
        moves: The moves between them.
    """

    states: tuple[State, ...]
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search established.

    Attributes:
        states: States visited; with symmetry, up to permutation of the secondaries.
        violated: Name of the property that a shortest run breaks; None if all hold.
        run: That run.
    """

    states: int
    violated: str | None
    run: Run | None


@dataclass(frozen=True, slots=True)
class Reached:
    """What a search established, but for who did what on the way.

    Attributes:
        states: As of `Found`.
        violated: As of `Found`.
        path: The states of a shortest run, secondaries in any order; empty if all hold.
    """

    states: int
    violated: str | None = None
    path: tuple[State, ...] = ()


def search(
    model: Model,
    secondaries: int,
    compiled: CompiledModel | None = None,
    *,
    symmetry: bool = True,
    limit: int = STATE_LIMIT,
) -> Found:
    """Search all states of a model with a given number of secondaries.

    Args:
        model: The model.
        secondaries: Number of secondaries, at least 0.
        compiled: The model in compiled form, to compile it only once.
        symmetry: Identify states that differ by a permutation of the secondaries.
        limit: Most states to visit.

    Raises:
        ModelError: The limit was reached.
    """
    compiled = compiled or CompiledModel(model)
    reached = explored(model, secondaries, compiled, symmetry=symmetry, limit=limit)
    run = replayed(model, reached.path) if reached.path else None
    return Found(reached.states, reached.violated, run)


def explored(
    model: Model,
    secondaries: int,
    compiled: CompiledModel,
    *,
    symmetry: bool = True,
    limit: int = STATE_LIMIT,
) -> Reached:
    """As `search`, for all models that mean the same, whatever their words."""
    exploration = _Exploration(compiled, symmetry, limit)
    violated = compiled.first_violation()
    for state in exploration.states_from(compiled.initial(secondaries)):
        if name := violated(state):
            return exploration.reached(name, state)
    # Last, as it needs all states: they have to be free of violations that are nearer.
    stuck = exploration.first_that_cannot_reach(model.goal)
    if stuck is not None:
        return exploration.reached(model.goal_name, stuck)
    return Reached(len(exploration))


class _Exploration:
    """The states found so far, numbered, each with the one that it was first reached from."""

    def __init__(self, compiled: CompiledModel, symmetry: bool, limit: int) -> None:
        self.compiled = compiled
        self._symmetry = symmetry
        self._limit = limit
        self._states: list[IdState] = []
        self._numbers: dict[IdState, int] = {}
        self._parents: list[int] = []
        self._successors: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return len(self._states)

    def states_from(self, start: IdState) -> Iterator[IdState]:
        """Every reachable state once, nearest first."""
        self._add(start, parent=-1)
        yield start
        # A state's successors are listed once it was looked at, so the list's length is the queue's
        # head.
        while (parent := len(self._successors)) < len(self._states):
            numbers = []
            for after in self.compiled.successors(self._states[parent], symmetry=self._symmetry):
                number = self._numbers.get(after)
                if number is None:
                    number = self._add(after, parent)
                    yield after
                numbers.append(number)
            self._successors.append(tuple(numbers))

    def reached(self, violated: str, state: IdState) -> Reached:
        """A state that breaks a property."""
        return Reached(len(self), violated, tuple(self._path_to(state)))

    def _path_to(self, state: IdState) -> list[State]:
        """The states on a shortest path from the start."""
        path = [self._numbers[state]]
        while (parent := self._parents[path[-1]]) >= 0:
            path.append(parent)
        return [self.compiled.state(self._states[number]) for number in reversed(path)]

    def first_that_cannot_reach(self, goal: Expr) -> IdState | None:
        """The nearest state from which a goal is out of reach."""
        is_goal = self.compiled.globally(goal)
        # Asked once of each value of the globals, of which there are far fewer than states.
        goals = {shared for shared in {state[0] for state in self._states} if is_goal(shared)}
        reaching = [state[0] in goals for state in self._states]
        # Most moves lead to later states, so that few sweeps from the end are enough.
        while self._sweep(reaching):
            pass
        return None if all(reaching) else self._states[reaching.index(False)]

    def _sweep(self, reaching: list[bool]) -> bool:
        """Mark the states with a marked successor, last state first; was there any?"""
        marked = False
        for number in range(len(reaching) - 1, -1, -1):
            if not reaching[number] and any(reaching[i] for i in self._successors[number]):
                reaching[number] = marked = True
        return marked

    def _add(self, state: IdState, parent: int) -> int:
        number = len(self._states)
        if number == self._limit:
            raise ModelError(
                f"more than {self._limit} states",
                where="search",
                do="raise `limit`, or check fewer secondaries",
            )
        self._numbers[state] = number
        self._states.append(state)
        self._parents.append(parent)
        return number


def replayed(model: Model, path: Sequence[State]) -> Run:
    """The path again, by the reference interpreter, with every secondary keeping its place."""
    # A path of sorted states does not say which secondary moves: the reference interpreter executes
    # it again, which tells them apart, and checks the search besides.
    state = initial(model, len(path[0][1]))
    states, taken = [state], []
    for wanted in path[1:]:
        # No default: a step that the interpreter cannot take is a defect of the search, and must be
        # seen.
        move, state = next(
            (move, after)
            for move, after in moves(model, state)
            if _sorted(after) == _sorted(wanted)
        )
        states.append(state)
        taken.append(move)
    return Run(tuple(states), tuple(taken))


def _sorted(state: State) -> State:
    return state[0], tuple(sorted(state[1]))

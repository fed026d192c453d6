# SPDX-License-Identifier: GPL-2.0-or-later
"""Exhaustive breadth-first search with symmetry, giving a shortest path to a violation.

Secondaries are interchangeable, so a state stands for all its permutations: their local
states are kept sorted. The path that is returned tells secondaries apart again; the
reference interpreter re-executes it, which also checks the search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from staleline.check.compiled import CompiledModel, IdState
from staleline.check.interpreter import Move, State, initial, moves
from staleline.errors import ModelError
from staleline.model.form import Model

__all__ = ["STATE_LIMIT", "Found", "Run", "search"]

#: States that one search may visit unless told otherwise; about a gigabyte.
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
    exploration = _Exploration(compiled, symmetry, limit)
    violated = compiled.first_violation()
    for state in exploration.states_from(compiled.initial(secondaries)):
        if name := violated(state):
            return _found(model, exploration, name, state)
    stuck = exploration.first_that_cannot_reach(model)
    if stuck is not None:
        return _found(model, exploration, model.goal_name, stuck)
    return Found(len(exploration.parents), None, None)


class _Exploration:
    """The states found so far, each with the state that it was first reached from."""

    def __init__(self, compiled: CompiledModel, symmetry: bool, limit: int) -> None:
        self.parents: dict[IdState, IdState | None] = {}
        self._edges: dict[IdState, list[IdState]] = {}
        self.compiled = compiled
        self._symmetry = symmetry
        self._limit = limit

    def states_from(self, start: IdState) -> Iterator[IdState]:
        """Every reachable state once, nearest first."""
        self.parents[start] = None
        yield start
        frontier = [start]
        while frontier:
            found: list[IdState] = []
            for state in frontier:
                successors = list(self.compiled.successors(state, symmetry=self._symmetry))
                self._edges[state] = successors
                for after in successors:
                    if after not in self.parents:
                        self.parents[after] = state
                        found.append(after)
                        yield after
            self._check_limit()
            frontier = found

    def path_to(self, state: IdState) -> list[IdState]:
        """The states on a shortest path from the start."""
        path = [state]
        while (parent := self.parents[path[-1]]) is not None:
            path.append(parent)
        return path[::-1]

    def first_that_cannot_reach(self, model: Model) -> IdState | None:
        """The nearest state from which the model's goal is out of reach."""
        is_goal = self.compiled.globally(model.goal)
        before: dict[IdState, list[IdState]] = {}
        for state, successors in self._edges.items():
            for after in successors:
                before.setdefault(after, []).append(state)
        goals = {shared for shared in {state[0] for state in self.parents} if is_goal(shared)}
        reaching = {state for state in self.parents if state[0] in goals}
        frontier = list(reaching)
        while frontier:
            earlier = {state for after in frontier for state in before.get(after, ())}
            frontier = list(earlier - reaching)
            reaching |= earlier
        return next((state for state in self.parents if state not in reaching), None)

    def _check_limit(self) -> None:
        if len(self.parents) > self._limit:
            raise ModelError(
                f"more than {self._limit} states",
                where="search",
                do="raise `limit`, or check fewer secondaries",
            )


def _found(model: Model, exploration: _Exploration, violated: str, state: IdState) -> Found:
    path = [exploration.compiled.state(one) for one in exploration.path_to(state)]
    return Found(len(exploration.parents), violated, _replay(model, path))


def _replay(model: Model, path: list[State]) -> Run:
    """The path again, by the reference interpreter, with every secondary keeping its place."""
    state = initial(model, len(path[0][1]))
    states, taken = [state], []
    for wanted in path[1:]:
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

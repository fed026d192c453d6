# SPDX-License-Identifier: GPL-2.0-or-later
"""A counterexample's order of events, tried on a kernel with another rule.

So two rules can be read side by side on one order of events; what is proved of the other rule over
all orders is the checker's answer, not this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from staleline.check.meaning.interpreter import Move, State, holds, initial, moves
from staleline.check.runs.trace import (
    DRAM_NAME,
    Counterexample,
    Step,
    View,
    actor_name,
    step_of,
    view_of,
)
from staleline.check.search.search import Run
from staleline.model.form import Model
from staleline.model.scenario import Scenario
from staleline.model.state.cpus import JUMPING
from staleline.model.state.lines import Line, lines_of
from staleline.model.world import model_of

__all__ = ["Followed", "Instead", "follow"]

#: States in which one CPU alone is looked for its way; the longest way known visits fewer.
_MAX_STATES = 2_000


@dataclass(frozen=True, slots=True)
class Instead:
    """What the other kernel does where the run has one step.

    Attributes:
        steps: Its steps; none where the run's step is not possible.
        hindrance: What stands against the run's step, as a clause; empty if nothing does.
    """

    steps: tuple[Step, ...]
    hindrance: str


@dataclass(frozen=True, slots=True)
class Followed:
    """The other kernel in the order of events of a run.

    Attributes:
        start: What a reader sees of its initial state.
        instead: For every step of the run, what it does instead.
        broken: Name of the first property that one of its states breaks; None if none does.
            P4 is not asked: it is about states that follow.
    """

    start: View
    instead: tuple[Instead, ...]
    broken: str | None


def follow(counterexample: Counterexample, scenario: Scenario) -> Followed | None:
    """Try a counterexample's order of events on another scenario.

    Returns:
        None if the line's role or its aliases do not exist there.
    """
    run = counterexample.run
    here, there = (_line(one, counterexample.line) for one in (scenario, counterexample.scenario))
    if here is None or there is None or here.names != there.names:
        return None
    follower = _Follower(here, model_of(scenario, here), len(run.states[0][1]))
    start = follower.view
    instead = tuple(
        follower.takes(move, before, after, view_of(there, counterexample.model, before))
        # There is one state more than moves.
        for move, before, after in zip(run.moves, run.states, run.states[1:], strict=False)
    )
    return Followed(start, instead, follower.broken)


def _line(scenario: Scenario, role: str) -> Line | None:
    return next((line for line in lines_of(scenario) if line.role == role), None)


class _Follower:
    """The other kernel, the state that it has come to, and what it has broken on the way."""

    def __init__(self, line: Line, model: Model, secondaries: int) -> None:
        self.broken: str | None = None
        self._line = line
        self._model = model
        self._state = initial(model, secondaries)

    @property
    def view(self) -> View:
        """What a reader sees of the state."""
        return view_of(self._line, self._model, self._state)

    def takes(self, move: Move, before: State, after: State, there: View) -> Instead:
        """Do what the run does, or what this kernel does to come to the same place.

        Args:
            move: The run's move.
            before: The run's state before it.
            after: The run's state after it.
            there: What a reader sees of the state before.
        """
        # The same step where this kernel can take it. Where it does something else at that site (it
        # executes a WBINVD that the run skips, or the reverse), the acting CPU does that until it
        # is where the run has it.
        way = self._same(move) or self._to_place(move, before, after)
        if way is None:
            return Instead((), _hindrance(actor_name(move), self.view, there))
        states = (self._state, *way.states)
        steps = tuple(
            step_of(self._line, self._model, *taken)
            for taken in zip(states, way.moves, states[1:], strict=False)
        )
        self._state = states[-1]
        self.broken = self.broken or self._first_broken(way.states)
        return Instead(steps, "")

    def _first_broken(self, states: Iterable[State]) -> str | None:
        return next(
            (
                item.name
                for state in states
                for item in self._model.properties
                if holds(self._model, item.violated, state)
            ),
            None,
        )

    def _same(self, wanted: Move) -> Run | None:
        for move, after in moves(self._model, self._state):
            # By name: under another rule an action may be written otherwise.
            if (move.action.name, move.secondary) == (wanted.action.name, wanted.secondary):
                return Run((after,), (move,))
        return None

    def _to_place(self, wanted: Move, before: State, after: State) -> Run | None:
        """The shortest way by which the acting CPU alone comes to its place in the run."""
        place = _place(self._model, after, wanted.secondary)
        # A step of its caches has no place that another rule could come to by another way.
        if place == _place(self._model, before, wanted.secondary):
            return None
        known = {self._state}
        ways = deque([(self._state, Run((), ()))])
        while ways and len(known) < _MAX_STATES:
            state, way = ways.popleft()
            for move, reached in self._alone(state, wanted.secondary):
                longer = Run((*way.states, reached), (*way.moves, move))
                if _place(self._model, reached, wanted.secondary) == place:
                    return longer
                if reached not in known:
                    known.add(reached)
                    ways.append((reached, longer))
        return None

    def _alone(self, state: State, secondary: int | None) -> list[tuple[Move, State]]:
        """One CPU's moves; those on its way come before those of its caches."""
        own = [one for one in moves(self._model, state) if one[0].secondary == secondary]
        here = _place(self._model, state, secondary)
        return sorted(own, key=lambda one: _place(self._model, one[1], secondary) == here)


def _place(model: Model, state: State, secondary: int | None) -> str:
    if secondary is None:
        names = [variable.name for variable in model.globals]
        return state[0][names.index(JUMPING.ref("pc").name)]
    # The first local variable is the place.
    return state[1][secondary][0]


def _hindrance(actor: str, here: View, there: View) -> str:
    """Where the two differ, of the acting CPU if it does, else of the others."""
    differing = [key for key in there if here.get(key) != there[key]]
    own = [key for key in differing if key[0] == actor]
    told = own or differing
    if not told:
        return "this rule has no such step"
    return "; ".join(_difference(key, here.get(key, "absent"), there[key]) for key in told)


def _difference(key: tuple[str, str], here: str, there: str) -> str:
    who, variable = key
    name = who if who == DRAM_NAME or who.startswith("secondary") else f"the {who}"
    if variable == "at":
        return f"{name} is at “{here}”, not at “{there}”"
    what = name if who == DRAM_NAME else f"the {variable} entry of {name}"
    return f"{what} is “{here}”, not “{there}”"

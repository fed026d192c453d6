# SPDX-License-Identifier: GPL-2.0-or-later
"""The question put to the model, and its answer."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import NamedTuple

from staleline.check.meaning.interpreter import State
from staleline.check.runs.trace import Counterexample, counterexample_of
from staleline.check.search.compiled import CompiledModel
from staleline.check.search.search import STATE_LIMIT, Reached, explored, replayed
from staleline.check.search.views import views
from staleline.errors import ModelError
from staleline.model.form import Model
from staleline.model.scenario import Scenario
from staleline.model.state.lines import Line, Role
from staleline.model.world import world

__all__ = ["Answer", "AnswerKind", "check", "is_safe"]


class AnswerKind(StrEnum):
    """How good an answer is.

    `PROVED` says of P1 to P3 that they hold for every number of CPUs; P4, that no CPU
    hangs, is searched up to `Answer.cpus` (a certificate proves it too: docs/proof.md).
    """

    PROVED = "proved"
    COUNTEREXAMPLE = "counterexample"
    VERIFIED = "verified-up-to-N"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the checker established for one scenario.

    Attributes:
        kind: Proved for every number of CPUs, a counterexample, or verified up to `cpus`.
        states: States visited, summed over line roles.
        cpus: Number of CPUs of the search, the jumping one included.
        symmetry: States that differ by a permutation of secondaries were counted once.
        property: Name of the property that does not hold, e.g. ``"P1"``; None if all do.
        counterexample: A shortest run that breaks it, with as few CPUs as break it.
    """

    kind: AnswerKind
    states: int
    cpus: int
    symmetry: bool
    property: str | None
    counterexample: Counterexample | None


def check(
    scenario: Scenario, roles: Collection[Role] | None = None, *, limit: int = STATE_LIMIT
) -> Answer:
    """Check every line role of a scenario.

    The search covers the scenario's number of secondaries, views every number. Where views
    do not settle it, small numbers come first, so that a counterexample has no CPU that it
    does not need.

    Args:
        scenario: The handover.
        roles: Only lines of these roles; None for all that exist.
        limit: Most states to visit per line role.

    Raises:
        ModelError: The limit was reached, or no line has one of these roles.
    """
    cases = tuple(
        _Case(scenario, line, model, _meaning(model)) for line, model in _world(scenario, roles)
    )
    # What breaks with one secondary no views prove, and it is far sooner found.
    fewest = min(1, scenario.secondaries)
    if any(case.meaning.breaks_with(fewest, limit) for case in cases):
        return _search(cases, fewest, limit, otherwise=AnswerKind.VERIFIED)
    # Views take milliseconds, and where they prove, no smaller number has to be searched.
    if all(case.meaning.proved for case in cases):
        # They say nothing of P4, which a search still has to ask.
        return _search(cases, scenario.secondaries, limit, otherwise=AnswerKind.PROVED)
    for secondaries in range(fewest, scenario.secondaries):
        answer = _search(cases, secondaries, limit, otherwise=AnswerKind.VERIFIED)
        if answer.counterexample is not None:
            return answer
    return _search(cases, scenario.secondaries, limit, otherwise=AnswerKind.VERIFIED)


def is_safe(scenario: Scenario, roles: Collection[Role] | None = None) -> bool:
    """Whether `check` finds no counterexample; it stops at the first role that has one.

    Raises:
        ModelError: The limit was reached, or no line has one of these roles.
    """
    secondaries = scenario.secondaries
    meanings = [_meaning(model) for _, model in _world(scenario, roles)]
    # Nearly all that breaks does so with one secondary, which takes a fifth of the states of two.
    if any(meaning.breaks_with(min(1, secondaries), STATE_LIMIT) for meaning in meanings):
        return False
    return all(meaning.reached(secondaries, STATE_LIMIT).violated is None for meaning in meanings)


def _world(scenario: Scenario, roles: Collection[Role] | None) -> Sequence[tuple[Line, Model]]:
    lines = [one for one in _lines(scenario) if roles is None or one[0].role in roles]
    # Of no line everything holds: it would pass for a proof.
    if not lines:
        raise ModelError(
            f"no line of the role {' or '.join(sorted(roles or ())) or '(none)'}",
            where=f"{scenario.path} handover",
            do="ask for a role that this handover has, or for all of them",
        )
    return lines


# Asked whether it is safe, and then for its counterexample.
_lines = lru_cache(256)(world)


@dataclass(frozen=True, slots=True)
class _Case:
    """One line role and its model."""

    scenario: Scenario
    line: Line
    model: Model
    meaning: _Meaning


#: Models that mean something else, of which is kept what was found.
_KEPT = 4096


class _Meaning:
    """What is found of a model, which is the same for all that differ in words alone."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._reached: dict[tuple[int, int], Reached] = {}

    @cached_property
    def proved(self) -> bool:
        """Do P1 to P3 hold for every number of CPUs?"""
        return views(self._model, _compiled(self)).proved

    def reached(self, secondaries: int, limit: int) -> Reached:
        """What a search finds."""
        asked = secondaries, limit
        if asked not in self._reached:
            self._reached[asked] = explored(self._model, secondaries, _compiled(self), limit=limit)
        return self._reached[asked]

    def breaks_with(self, secondaries: int, limit: int) -> bool:
        """Does a search find what breaks P1, P2 or P3?"""
        return self.reached(secondaries, limit).violated not in {None, self._model.goal_name}

    def compiled(self) -> CompiledModel:
        """The model in compiled form, which is large."""
        return CompiledModel(self._model)


# Asked for views, and then for searches; what was found is small.
_compiled = lru_cache(128)(_Meaning.compiled)


@dataclass(frozen=True, slots=True)
class _Wordless:
    """A model, equal to all that mean the same."""

    meaning: tuple[Hashable, ...]
    model: Model = field(compare=False)


def _meaning(model: Model) -> _Meaning:
    # Half of an audit's models differ in words alone, and so do those of a fleet's machines, which
    # come in any order.
    meaning = (
        model.globals,
        model.locals,
        tuple((action.actor, action.guard, action.assigns) for action in model.actions),
        tuple((item.name, item.violated) for item in model.properties),
        model.goal,
        model.goal_name,
    )
    return _meaning_of(_Wordless(meaning, model))


@lru_cache(_KEPT)
def _meaning_of(wordless: _Wordless) -> _Meaning:
    return _Meaning(wordless.model)


def _search(
    cases: tuple[_Case, ...], secondaries: int, limit: int, *, otherwise: AnswerKind
) -> Answer:
    reached = [case.meaning.reached(secondaries, limit) for case in cases]
    broken = [
        _Broken(case, searched.violated, searched.path)
        for case, searched in zip(cases, reached, strict=True)
        if searched.violated is not None
    ]
    # Of runs as short as each other the first is kept, in the order of `world`.
    shortest = min(broken, key=lambda each: len(each.path), default=None)
    return Answer(
        kind=AnswerKind.COUNTEREXAMPLE if shortest else otherwise,
        states=sum(searched.states for searched in reached),
        cpus=secondaries + 1,
        symmetry=True,
        property=shortest.violated if shortest else None,
        counterexample=shortest.counterexample if shortest else None,
    )


class _Broken(NamedTuple):
    """A model and a shortest way to what it breaks."""

    case: _Case
    violated: str
    path: tuple[State, ...]

    @property
    def counterexample(self) -> Counterexample:
        """It, told."""
        case = self.case
        run = replayed(case.model, self.path)
        return counterexample_of(case.scenario, case.line, case.model, self.violated, run)

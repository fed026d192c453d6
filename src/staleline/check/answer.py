# SPDX-License-Identifier: GPL-2.0-or-later
"""The question put to the model, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from staleline.check.search import STATE_LIMIT, Found, search
from staleline.check.trace import Counterexample, counterexample_of
from staleline.model.form import Model
from staleline.model.lines import Line
from staleline.model.scenario import Scenario
from staleline.model.world import world

__all__ = ["Answer", "AnswerKind", "check"]


class AnswerKind(StrEnum):
    """How good an answer is."""

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


def check(scenario: Scenario, *, limit: int = STATE_LIMIT) -> Answer:
    """Check every line role of a scenario.

    Small numbers of secondaries come first, so that a counterexample has no CPU that it
    does not need.

    Args:
        scenario: The handover.
        limit: Most states to visit per line role.

    Raises:
        ModelError: The limit was reached.
    """
    models = world(scenario)
    answer = None
    for secondaries in range(min(1, scenario.secondaries), scenario.secondaries + 1):
        answer = _check_with(models, secondaries, limit)
        if answer.counterexample is not None:
            return answer
    assert answer is not None
    return answer


def _check_with(models: tuple[tuple[Line, Model], ...], secondaries: int, limit: int) -> Answer:
    found = [(line, model, search(model, secondaries, limit=limit)) for line, model in models]
    broken = [one for one in found if one[2].run is not None]
    shortest = min(broken, key=lambda one: _steps(one[2]), default=None)
    return Answer(
        kind=AnswerKind.COUNTEREXAMPLE if shortest else AnswerKind.VERIFIED,
        states=sum(result.states for _, _, result in found),
        cpus=secondaries + 1,
        symmetry=True,
        property=shortest[2].violated if shortest else None,
        counterexample=_told(*shortest) if shortest else None,
    )


def _steps(found: Found) -> int:
    return len(found.run.moves) if found.run else 0


def _told(line: Line, model: Model, found: Found) -> Counterexample | None:
    if found.run is None or found.violated is None:
        return None
    return counterexample_of(line, model, found.violated, found.run)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs as a page plays them: where they start and what each step does, texts by number.

Many handovers of a report have the same run, and all runs share most of their sentences, so
each run and each text is written once.
"""

from __future__ import annotations

import json
from typing import Any

from staleline.check.runs.follow import Followed, Instead, follow
from staleline.check.runs.trace import DRAM_NAME, SHARED_NAME, Counterexample, Step, View, view_of
from staleline.model.scenario import Scenario
from staleline.model.state.lines import lines_of

__all__ = ["Numbers", "Runs"]


class Numbers:
    """Numbers for plain values that recur, in order of first use."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, value: Any) -> int:
        """The value's number."""
        # JSON tells 1 from true, which as keys of a dictionary are one, and hashes lists.
        return self._numbers.setdefault(json.dumps(value), len(self._numbers))

    @property
    def all(self) -> list[Any]:
        """The values by number."""
        return [json.loads(value) for value in self._numbers]


class Runs:
    """The runs of a page, each once.

    Attributes:
        documents: By number.
        counterexamples: Number -> the counterexample, where the run is one.
    """

    def __init__(self, texts: Numbers) -> None:
        self.documents: list[dict[str, Any]] = []
        self.counterexamples: dict[int, Counterexample] = {}
        self._texts = texts
        #: (scenario of the counterexample, scenario that follows it) -> number.
        self._numbers: dict[tuple[Scenario, Scenario], int | None] = {}

    def of(self, counterexample: Counterexample) -> int:
        """Number of a counterexample's run."""
        # A scenario has one shortest run, so that it stands for its run.
        key = (counterexample.scenario, counterexample.scenario)
        number = self._numbers.get(key)
        if number is None:
            steps = tuple(Instead((step,), "") for step in counterexample.steps)
            told = Followed(_start(counterexample), steps, counterexample.property)
            number = self._numbers[key] = self._add(counterexample, told)
            self.counterexamples[number] = counterexample
        return number

    def followed(self, counterexample: Counterexample, scenario: Scenario) -> int | None:
        """Number of another kernel's run in that order of events; None if there is none."""
        key = (counterexample.scenario, scenario)
        if key not in self._numbers:
            found = follow(counterexample, scenario)
            self._numbers[key] = None if found is None else self._add(counterexample, found)
        return self._numbers[key]

    def _add(self, counterexample: Counterexample, told: Followed) -> int:
        model = counterexample.model
        titles = {item.name: item.title for item in model.properties}
        titles[model.goal_name] = model.goal_title
        self.documents.append(
            {
                "line": counterexample.line,
                "property": told.broken,
                "title": None if told.broken is None else titles[told.broken],
                "lanes": _lanes(counterexample, told.start),
                "start": [
                    [*map(self._texts.number, (*key, value))] for key, value in told.start.items()
                ],
                "steps": [self._instead(step) for step in told.instead],
            }
        )
        return len(self.documents) - 1

    def _instead(self, instead: Instead) -> list[Any]:
        return [[*map(self._step, instead.steps)], self._texts.number(instead.hindrance)]

    def _step(self, step: Step) -> list[Any]:
        """Actor, function, source, sentence, and lane, variable and value of each change."""
        told = (step.actor, step.function, step.source, step.sentence)
        changes = ((one.cpu, one.variable, one.after) for one in step.changes)
        return [
            *map(self._texts.number, told),
            [[*map(self._texts.number, change)] for change in changes],
        ]


def _start(counterexample: Counterexample) -> View:
    role = counterexample.line
    line = next(line for line in lines_of(counterexample.scenario) if line.role == role)
    return view_of(line, counterexample.model, counterexample.run.states[0])


def _lanes(counterexample: Counterexample, view: View) -> list[str]:
    shared = [SHARED_NAME] if any(lane == SHARED_NAME for lane, _ in view) else []
    return [*counterexample.cpus, *shared, DRAM_NAME]

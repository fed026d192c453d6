# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel run into another: what was asked, what was seen and what had been predicted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from staleline.simulation.experiment import Experiment, SimulatedCpus
from staleline.simulation.observation import RunOutcome, SeenRun
from staleline.simulation.places import NamedPlaces
from staleline.simulation.prediction import Prediction, disagreement
from staleline.vocabulary import Site

__all__ = ["ControlledRun", "JudgedRun", "RunQuestion", "controls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuestion:
    """What is to be compared.

    Attributes:
        kernel: The first kernel's file.
        following: The next one's.
        experiment: What is run.
        without: A site whose WBINVD is taken away.
    """

    kernel: str
    following: str
    experiment: Experiment
    without: Site | None = None


@dataclass(frozen=True)
class JudgedRun:
    """One run of a comparison.

    Attributes:
        name: What it is, e.g. "with coherent aliases".
        experiment: What was run.
        seen: What it has shown.
        prediction: What was predicted; None where the machine did not tell its CPUID.
        places: Names for addresses.
    """

    name: str
    experiment: Experiment
    seen: SeenRun
    prediction: Prediction | None
    places: NamedPlaces

    @cached_property
    def disagreement(self) -> str | None:
        """Where the run contradicts the prediction."""
        if self.prediction is None or self.seen.outcome is RunOutcome.NOT_OBSERVED:
            return None
        return disagreement(self.prediction, self.seen)


@dataclass(frozen=True, slots=True)
class ControlledRun:
    """A run, and its controls."""

    question: RunQuestion
    run: JudgedRun
    controls: tuple[JudgedRun, ...]

    @property
    def to_blame(self) -> bool:
        """Something was destroyed, or failed, and in no control."""
        bad = (RunOutcome.DESTROYED, RunOutcome.FAILED, RunOutcome.RACE)
        return self.run.seen.outcome in bad and all(
            control.seen.outcome is RunOutcome.CLEAN for control in self.controls
        )


def controls(question: RunQuestion) -> Iterator[tuple[str, RunQuestion]]:
    """What is run beside it, by name."""
    experiment = question.experiment
    if experiment.machine is not SimulatedCpus.AMD_COHERENT:
        yield (
            "aliases coherent",
            replace(question, experiment=experiment.with_caches(aliases="coherent")),
        )
    if experiment.machine is SimulatedCpus.HYGON or question.without is not None:
        caches = {name: v for name, v in experiment.caches.items() if name != "skip_wbinvd"}
        flushing = replace(experiment, machine=SimulatedCpus.AMD, caches=caches)
        yield (
            "AMD, which flushes",
            replace(question, experiment=flushing, without=None),
        )

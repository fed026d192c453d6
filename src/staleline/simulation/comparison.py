# SPDX-License-Identifier: GPL-2.0-or-later
"""One kernel on its way into another: what was observed, its controls, and what was predicted.

What a run shows is a kernel's doing only if the same is clean where aliases are coherent, and where
a vendor's CPUs make the kernel flush.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path as FilePath

from staleline.kernel.image.assembly import load_image
from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.execution import RunBounds
from staleline.simulation.experiment import Experiment, SimulatedCpus, run_experiment
from staleline.simulation.observation import RunOutcome, SeenRun
from staleline.simulation.places import NamedPlaces, slide_of
from staleline.simulation.prediction import (
    Prediction,
    disagreement,
    machine_evidence,
    predicted,
)
from staleline.verdict.audit.wanted_next import NextImage
from staleline.vocabulary import Site

__all__ = ["Bench", "ControlledRun", "JudgedRun", "RunQuestion", "controls", "run_with_controls"]


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


@dataclass(frozen=True, slots=True)
class Bench:
    """Where runs are made.

    Attributes:
        emulator: The machine.
        folder: For the machines' files, one folder each.
        bounds: Of each run.
        progress: Told what is run next.
    """

    emulator: BuiltMachine
    folder: FilePath
    bounds: RunBounds
    progress: Callable[[str], None] = lambda _: None

    def run(self, number: int, name: str, question: RunQuestion) -> SeenRun:
        """One run, in a folder of its own."""
        self.progress(name)
        place = self.folder / str(number)
        return run_experiment(question.experiment, self.emulator, place, self.bounds)


def run_with_controls(
    question: RunQuestion, bench: Bench, *, controlled: bool = True
) -> ControlledRun:
    """Run it, and its controls if it shows anything that they could explain.

    Args:
        question: What is to be compared.
        bench: Where.
        controlled: With controls.

    Raises:
        KernelImageError: A kernel cannot be read, or the machine has no room for it.
    """
    places = NamedPlaces(load_image(question.kernel), load_image(question.following))
    first = _told("run", question, places, bench.run(0, "the run", question))
    beside = []
    # Where nothing was observed there is nothing to find the cause of.
    if controlled and first.seen.outcome is not RunOutcome.NOT_OBSERVED:
        for number, (name, control) in enumerate(controls(question), 1):
            seen = bench.run(number, f"control: {name}", control)
            beside.append(_told(name, control, places, seen))
    return ControlledRun(question, first, tuple(beside))


def _told(name: str, question: RunQuestion, places: NamedPlaces, seen: SeenRun) -> JudgedRun:
    # With KASLR each run moves its kernel by another distance.
    moved = replace(places, slide=slide_of(places.kernel, seen))
    return JudgedRun(name, question.experiment, seen, _prediction(question, places, seen), moved)


def _prediction(question: RunQuestion, places: NamedPlaces, seen: SeenRun) -> Prediction | None:
    if not seen.tells_cpuid or places.following is None:
        return None
    experiment = question.experiment
    evidence = machine_evidence(
        seen.cpuid,
        cpus=experiment.cpus,
        mem_encrypt=experiment.mem_encrypt,
        command_line=experiment.whole_command_line,
        coherent=experiment.caches.get("aliases") == "coherent",
    )
    following = NextImage(places.following, experiment.whole_next_command_line)
    return predicted(evidence, question.kernel, following, experiment.path, question.without)

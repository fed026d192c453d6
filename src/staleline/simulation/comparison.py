# SPDX-License-Identifier: GPL-2.0-or-later
"""One kernel on its way into another: what was observed, its controls, and what was predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

from staleline.kernel.image.assembly import load_image
from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.execution import RunBounds
from staleline.simulation.experiment import run_experiment
from staleline.simulation.judged import machine_evidence, predicted
from staleline.simulation.judgedrun import ControlledRun, JudgedRun, RunQuestion, controls
from staleline.simulation.observation import RunOutcome, SeenRun
from staleline.simulation.places import NamedPlaces, slide_of
from staleline.simulation.prediction import Prediction
from staleline.verdict.audit.wanted_next import NextImage

__all__ = ["Bench", "run_with_controls"]


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
        # What a run shows is a kernel's doing only if the same is clean where aliases are coherent,
        # and where a vendor's CPUs make the kernel flush.
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

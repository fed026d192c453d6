# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image does for every combination of raw facts."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.decision import Decision, RawMachine
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.traps import Answer, LogicalCpu, Question
from staleline.kernel.rule.answers import AnswerTree
from staleline.kernel.rule.enumeration import lacking, raw_facts
from staleline.kernel.rule.truthrows import TruthRow, TruthTable
from staleline.kernel.sites.runner import KernelReader, Start, unknown_decision
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["truth_table"]

#: Wall-clock seconds for all rows; 70 to 90 runs of a few milliseconds are usual.
_SECONDS: Final = 60.0
#: After so many runs without an end, the image is taken for one that has none.
_EXHAUSTED_RUNS: Final = 3


def truth_table(
    image: KernelImage, rows: Iterable[RawFacts] | None = None, *, seconds: float = _SECONDS
) -> TruthTable:
    """Run the image on a machine for each combination.

    Args:
        image: The kernel.
        rows: The combinations; all of `raw_facts` that the image can tell apart if None.
        seconds: When this time is over, the remaining rows are unknown.
    """
    combinations = tuple(raw_facts(lacking(image)) if rows is None else rows)
    runs = _Runs(KernelReader(image), time.monotonic() + seconds)
    decisions = runs.decide([raw_machine(facts) for facts in combinations])
    return TruthTable(tuple(map(_row, combinations, decisions)), runs.count)


def _row(facts: RawFacts, decision: Decision) -> TruthRow:
    sites = {
        Site.STOP_THIS_CPU: decision.stop_this_cpu,
        Site.RELOCATE_KERNEL: decision.relocate_kernel,
        Site.CRASH_NMI_CALLBACK: decision.crash_nmi_callback,
    }
    return TruthRow(
        facts,
        sites,
        decision.sme_active,
        decision.reported_stopped,
        decision.crash_relocate_kernel,
    )


class _Runs:
    """Decisions of one image, each run once."""

    def __init__(self, reader: KernelReader, deadline: float) -> None:
        self._reader = reader
        self._deadline = deadline
        self._decisions: dict[Hashable, AnswerTree[Decision]] = {}
        self._exhausted = 0
        self.count = 0

    def decide(self, machines: Sequence[RawMachine]) -> list[Decision]:
        """The decision for each, by a run of its own or one that it would repeat."""
        try:
            with self._reader.series():
                return list(map(self._decide, machines, self._starts(machines)))
        except DerivationError as error:
            # Of an image that does not repeat itself nothing is known.
            return [unknown_decision(str(error))] * len(machines)

    def _starts(self, machines: Sequence[RawMachine]) -> list[Hashable]:
        """Equal for machines on which the startup code leaves the same state."""
        # The startup code begins in a state that only the command line changes.
        trees: dict[bool, AnswerTree[Hashable]] = {False: AnswerTree(), True: AnswerTree()}
        states = []
        with self._reader.starts() as start:
            for machine in machines:
                tree = trees[machine.mem_encrypt]
                state = tree.find(_answers_of(machine))
                if state is None and not self._given_up:
                    state = self._keep(start(machine), tree)
                states.append(state)
        return states

    def _keep(self, start: Start, tree: AnswerTree[Hashable]) -> Hashable:
        self._exhausted += start.exhausted
        if not start.exhausted:
            tree.add(start.record, start.state)
        return start.state

    def _decide(self, machine: RawMachine, start: Hashable) -> Decision:
        # What follows begins in the state that the startup code left, and in what is asked of the
        # kernel: a kexec jump or not.
        tree = self._decisions.setdefault((start, _asked_of_the_kernel(machine)), AnswerTree())
        # A run learns of the machine by CPUID and RDMSR alone: I/O ports hold an empty PCI bus, the
        # local APIC's page is zero, the time stamp counts how often it was read, control registers
        # start the same and keep what was written, and registers are the same at each call.
        return tree.find(_answers_of(machine)) or self._run(machine, tree)

    def _run(self, machine: RawMachine, tree: AnswerTree[Decision]) -> Decision:
        if self._given_up:
            return unknown_decision(
                f"not run: {self.count} other combinations took the image's time, "
                f"{self._exhausted} runs had no end"
            )
        run = self._reader.run(machine)
        self.count += 1
        self._exhausted += run.exhausted
        if not run.exhausted:  # else it may get further the next time
            tree.add(run.record, run.decision)
        return run.decision

    @property
    def _given_up(self) -> bool:
        return time.monotonic() > self._deadline or self._exhausted >= _EXHAUSTED_RUNS


def _answers_of(machine: RawMachine) -> Callable[[Question], Answer]:
    msr = machine.firmware_msr
    cpus = (LogicalCpu(0, machine.jumping, msr), LogicalCpu(1, machine.secondary, msr))
    return lambda question: cpus[question[0]].answer(question)


def _asked_of_the_kernel(machine: RawMachine) -> Hashable:
    """Whatever a machine says but answers to questions, and what only startup code reads."""
    others = {"jumping", "secondary", "msr", "mem_encrypt"}
    names = (field.name for field in fields(machine))
    return tuple(getattr(machine, name) for name in names if name not in others)

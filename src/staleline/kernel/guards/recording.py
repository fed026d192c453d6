# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a kernel on a machine and record one site: its instructions and what they read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.machine import SECONDARY, EmulatedMachine, two_cpus
from staleline.kernel.boot.startup import boot
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.traps import Answer, LogicalCpu
from staleline.kernel.opcodes import HLT, WBINVD
from staleline.kernel.rerun.inputs import Register
from staleline.kernel.rerun.trace import Recorder
from staleline.kernel.sites.crash import run_crash
from staleline.kernel.sites.jump import run_relocate_kernel
from staleline.kernel.sites.kexecstate import begin_crash, begin_kexec
from staleline.kernel.sites.sites import run_stop_this_cpu
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.boot.places import Places
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.rerun.trace import ExecutedInstruction

__all__ = ["RecordedSite", "SiteRunner", "Source"]

_ENTRY: Final = {
    Site.STOP_THIS_CPU: "stop_this_cpu",
    Site.RELOCATE_KERNEL: "machine_kexec",
    Site.CRASH_NMI_CALLBACK: "crash_nmi_callback",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value was before the site began.

    Attributes:
        name: A variable, ``CPUID 0x8000001f EAX`` or ``MSR 0xc0010010``.
        place: (address, size) of a variable, or what the hardware is asked for.
    """

    name: str
    place: tuple[int, int] | Register


@dataclass(slots=True, eq=False)
class _NotedCpu(LogicalCpu):
    """Keeps what was asked of it, and by which step.

    Attributes:
        steps: Of the trace so far; the last of them asks.
        answers: Number of a step -> what it was answered.
    """

    steps: Sequence[ExecutedInstruction] = ()
    answers: dict[int, dict[Source, int]] = field(default_factory=dict)

    def execute_cpuid(self, leaf: int, subleaf: int) -> Answer:
        """Likewise, with a note."""
        # Not super(): with slots the decorator makes another class of this, which it would not
        # find.
        answer = LogicalCpu.execute_cpuid(self, leaf, subleaf)
        self._note([Register(leaf, subleaf, index) for index in range(4)], answer)
        return answer

    def read_msr(self, number: int) -> int:
        """Likewise, with a note."""
        value = LogicalCpu.read_msr(self, number)
        self._note([Register(number, None)], (value,))
        return value

    def _note(self, registers: Sequence[Register], answer: Answer) -> None:
        # By the step and not by the order: code before the site asks too, SWAPGS asks for an MSR,
        # and RDMSR of what the engine holds asks nothing here.
        sources = (Source(str(register), register) for register in registers)
        self.answers[len(self.steps) - 1] = dict(zip(sources, answer, strict=True))


@dataclass(frozen=True, slots=True)
class RecordedSite:
    """One site on one machine.

    Attributes:
        steps: From the site's entry until the CPU halts or hands over.
        places: Names of addresses.
        inputs: Index of a step -> what it read that no step before it wrote.
        before: Variable -> its value when the site began.
        cpu: The CPU, as the site left it.
    """

    steps: Sequence[ExecutedInstruction]
    places: Places
    inputs: Mapping[int, Mapping[Source, int]]
    before: Mapping[Source, int]
    cpu: LogicalCpu

    @property
    def flush(self) -> int | None:
        """Index of the first WBINVD."""
        flushes = (i for i, step in enumerate(self.steps) if step.code.startswith(WBINVD))
        return next(flushes, None)

    def value(self, source: Source) -> int | None:
        """What was there when the site began; None if it was not looked at."""
        if source in self.before:
            return self.before[source]
        # Not of this run's record: the other machine may never have asked.
        if not isinstance(source.place, Register):
            return None
        asked = source.place
        if asked.subleaf is None:
            return self.cpu.msr.get(asked.number, 0)
        answer = self.cpu.cpuid.read(asked.number, asked.subleaf)
        return None if answer is None else answer[asked.index]


class SiteRunner:
    """Records sites of one image; keep it for many machines."""

    def __init__(self, image: KernelImage) -> None:
        self._emulated = EmulatedMachine(image)

    def run(
        self, site: Site, machine: RawMachine, looking_at: Iterable[Source] = ()
    ) -> RecordedSite:
        """Boot on `machine` and run the site.

        Args:
            site: Which.
            machine: What the kernel sees.
            looking_at: Variables whose value is wanted although this run may not read them.

        Raises:
            DerivationError: The kernel's code did not get to the site.
        """
        cpus = self._boot(machine)
        before = dict(self._contents(looking_at))
        cpu = cpus[0 if site is Site.RELOCATE_KERNEL else SECONDARY]
        recorder = Recorder(self._emulated.memory, self._emulated.emulator)
        cpu.steps, cpu.answers = recorder.steps, {}  # what the boot asked is not the site's
        recorder.record(self._running(site, machine, cpus))
        entries = self._emulated.image.symbols.addresses(_ENTRY[site])
        part = _of_the_site(recorder.steps, entries)
        steps = recorder.steps[part.start : part.stop]
        answers = [cpu.answers.get(number) for number in part]
        inputs = {i: read for i, read in enumerate(self._read(steps, answers)) if read}
        return RecordedSite(steps, self._emulated.places, inputs, before, cpu)

    def _boot(self, machine: RawMachine) -> tuple[_NotedCpu, _NotedCpu]:
        cpus = two_cpus(machine, _NotedCpu)
        self._emulated.start_over()
        boot(self._emulated, cpus, mem_encrypt=machine.mem_encrypt)
        return cpus

    def _running(
        self, site: Site, machine: RawMachine, cpus: tuple[_NotedCpu, _NotedCpu]
    ) -> Callable[[], object]:
        emulated = self._emulated
        if site is Site.STOP_THIS_CPU:
            begin_kexec(emulated.image, emulated.memory, online=len(cpus))
            return partial(run_stop_this_cpu, emulated, cpus[SECONDARY], jumping=cpus[0])
        if site is Site.RELOCATE_KERNEL:
            jump = machine.preserve_context
            begin_kexec(emulated.image, emulated.memory, online=1)
            return partial(run_relocate_kernel, emulated, cpus[0], preserve_context=jump)
        begin_crash(emulated.image, emulated.memory, crashing=cpus[0].number)
        return partial(run_crash, emulated, cpus)

    def _contents(self, sources: Iterable[Source]) -> Iterator[tuple[Source, int]]:
        for source in sources:
            if isinstance(source.place, Register):
                continue
            with suppress(DerivationError):
                yield source, self._emulated.memory.read_int(*source.place)

    def _read(
        self,
        steps: Sequence[ExecutedInstruction],
        answers: Sequence[Mapping[Source, int] | None],
    ) -> Iterator[Mapping[Source, int]]:
        """Per step, what it read that was there before."""
        written: set[int] = set()
        for step, answered in zip(steps, answers, strict=True):
            yield self._variables(step, written) if answered is None else answered

    def _variables(self, step: ExecutedInstruction, written: set[int]) -> dict[Source, int]:
        variables = {}
        for access in step.accesses:
            covered = range(access.address, access.address + access.size)
            if access.value is None:
                written.update(covered)
            elif written.isdisjoint(covered):
                # What the site itself stored is no input; nor is what has no name, a stack's.
                name = self._emulated.places.variable(access.address)
                if name is not None:
                    variables[Source(name, (access.address, access.size))] = access.value
        return variables


def _of_the_site(steps: Sequence[ExecutedInstruction], entries: Collection[int]) -> range:
    """From the first step at one of `entries` to the next halt: of several, the one executed."""
    # Several, where static functions share a name (`SymbolTable.address`).
    start = next((i for i, step in enumerate(steps) if step.address in entries), len(steps))
    for end in range(start, len(steps)):
        if steps[end].code.startswith(HLT):
            return range(start, end + 1)
    return range(start, len(steps))

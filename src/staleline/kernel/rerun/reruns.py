# SPDX-License-Identifier: GPL-2.0-or-later
"""Run an image again with parts of what it asks or reads changed, and see what it decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.boot.machine import EmulatedMachine, two_cpus
from staleline.kernel.boot.startup import boot, boot_once
from staleline.kernel.derivation import DerivationError, NobodyShotDownError
from staleline.kernel.emulator.execution.end import NullUses, RunLimits
from staleline.kernel.emulator.layout import CONTROL_PAGES
from staleline.kernel.rerun.constantmemory import variable_memory
from staleline.kernel.rerun.inputs import Flips, Register, VariedCpu, nothing
from staleline.kernel.rerun.trace import Recorder
from staleline.kernel.rerun.variation import AS_GIVEN, Cell, Variation
from staleline.kernel.sites.interrupts import interrupts_of
from staleline.kernel.sites.kexecstate import begin_crash, begin_kexec
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.emulator.memory import KeptMemory, MachineMemory
    from staleline.kernel.emulator.traps import Answer, Question
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.rerun.detour import Detour
    from staleline.kernel.rerun.trace import ExecutedInstruction

__all__ = [
    "SITES",
    "Accesses",
    "Booted",
    "Cpus",
    "Outcome",
    "Reruns",
    "RunSite",
    "SiteRun",
]

#: Five times what a function takes that runs to its end.
_LIMITS: Final = RunLimits(instructions=300_000, seconds=2.0)
#: Sites that can be run again.
SITES: Final = (Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL, Site.CRASH_NMI_CALLBACK)

#: The jumping CPU and the secondary.
Cpus = tuple[VariedCpu, VariedCpu]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one boot.

    Attributes:
        sites: Per site, WBINVD or not, or why that is unknown.
        asked: Registers the hardware was asked for -> the bits that were turned over.
    """

    sites: Mapping[Site, SiteDecision]
    asked: Mapping[Register, int]

    def differs(self, other: Outcome) -> frozenset[Site]:
        """Sites that are known in both and do not decide alike, or not leave lines alike."""
        return frozenset(
            site
            for site, decision in self.sites.items()
            if other.sites[site].answer is not None
            and (decision.astray or decision.answer not in (None, other.sites[site].answer))
        )

    def lost(self, other: Outcome) -> frozenset[Site]:
        """Sites that are known in `other` and unknown here."""
        return frozenset(
            site
            for site, decision in self.sites.items()
            if decision.flushes is None and other.sites[site].flushes is not None
        )


@dataclass(slots=True)
class Accesses:
    """What code read before it wrote there, and the blocks of instructions it executed.

    Attributes:
        memory: Where.
        reads: Cell -> what was there.
        blocks: Address and size of each block that was begun.
    """

    memory: MachineMemory
    reads: dict[Cell, bytes] = field(default_factory=dict)
    blocks: set[tuple[int, int]] = field(default_factory=set)
    _written: set[int] = field(default_factory=set)
    _noted: set[tuple[int, int, bool]] = field(default_factory=set)

    def note(self, address: int, size: int, is_write: bool) -> None:
        """One access, before it takes effect."""
        # The same another time tells nothing new: what was written before stays so.
        access = address, size, is_write
        if access in self._noted:
            return
        self._noted.add(access)
        if is_write:
            self._written.update(range(address, address + size))
        else:
            self._read(address, size)

    def execute(self, address: int, size: int) -> None:
        """One block."""
        self.blocks.add((address, size))

    def _read(self, address: int, size: int) -> None:
        if self._written.isdisjoint(range(address, address + size)):
            # What is not in memory ends the run.
            with suppress(DerivationError):
                self.reads[address, size] = self.memory.read(address, size)


@dataclass(frozen=True, slots=True)
class SiteRun:
    """One run of a site from a kept state.

    Attributes:
        decision: WBINVD or not, or why that is unknown.
        asked: Registers the hardware was asked for -> the bits that were turned over.
        flushes: WBINVDs executed, by whichever CPU and on whichever way.
        record: What each CPU asked the hardware and was answered, in that order.
    """

    decision: SiteDecision
    asked: Mapping[Register, int]
    record: tuple[tuple[Question, Answer], ...]
    flushes: int

    def differs(self, other: SiteRun) -> bool:
        """Does it decide otherwise, as far as it got? `other` came to its end."""
        if self.decision.answer is None:
            more = other.decision.flushes is False and self.flushes > other.flushes
            return more or self.decision.astray or self.decision.unmodelled
        return self.decision.answer != other.decision.answer


@dataclass(frozen=True, slots=True, eq=False)
class Booted:
    """A machine behind the derivation.

    Attributes:
        memory: As that left it.
        cpus: Likewise.
        begun: The same memory when a site begins, where that was asked for.
    """

    memory: KeptMemory
    cpus: Cpus
    begun: dict[Site, KeptMemory] = field(default_factory=dict)


class RunSite(Protocol):
    """Runs a site from a kept state."""

    def __call__(self, site: Site, variation: Variation = AS_GIVEN) -> SiteRun:
        """With other bytes at some addresses, and other answers of the hardware."""


class Reruns(ABC):
    """One image, to be run many times on one way to its sites.

    Not for use by several threads at once.
    """

    def __init__(self, image: KernelImage) -> None:
        self.image = image
        # Watching drops translated code, so what is watched has an engine of its own.
        self._emulated = EmulatedMachine(image, _LIMITS)
        self._watched = self._emulated.with_engine_of_its_own()
        self._traced = self._emulated.with_engine_of_its_own()
        self.memory, self.places = self._emulated.memory, self._emulated.places
        self._recorder = Recorder(self.memory, self._traced.emulator)
        self._accesses = Accesses(self.memory)
        pages = (CONTROL_PAGES.start, self.memory.direct(CONTROL_PAGES.start))
        self._variable = variable_memory(
            image.symbols, (range(page, page + len(CONTROL_PAGES)) for page in pages)
        )
        self._variable_from = [part.start for part in self._variable]
        symbols = image.symbols
        self.text = range(symbols.address("_text") or 0, symbols.address("_etext") or 0)
        self._names: dict[int, str] = {}
        self._changed: Mapping[int, bytes] = {}
        #: How often the derivation was run.
        self.boots = 0

    def boot(self, machine: RawMachine) -> Booted:
        """Run the derivation, and keep the state it leaves.

        Raises:
            DerivationError: It did not end.
        """
        cpus = _cpus(machine, AS_GIVEN.flips)
        self._boot_as_given(machine, cpus)
        return Booted(self.memory.kept(), cpus)

    def decide(self, machine: RawMachine, variation: Variation = AS_GIVEN) -> Outcome:
        """The derivation and all sites."""
        cpus = _cpus(machine, variation.flips)
        try:
            if variation is AS_GIVEN:
                self._boot_as_given(machine, cpus)
            else:
                self._boot(machine, variation, cpus, self._emulated)
        except DerivationError as error:
            return Outcome(dict.fromkeys(SITES, SiteDecision(None, str(error))), _asked(cpus))
        sites = {}
        for site in SITES:
            self._begin(site, cpus)
            sites[site] = self._run_site(site, cpus, self._emulated)
        return Outcome(sites, _asked(cpus))

    def _boot_as_given(self, machine: RawMachine, cpus: Cpus) -> None:
        self.boots += 1
        boot_once(self._emulated, machine, cpus)
        self._put({})
        interrupts_of(self._emulated)

    def _boot(
        self, machine: RawMachine, variation: Variation, cpus: Cpus, emulated: EmulatedMachine
    ) -> None:
        self.boots += 1
        emulated.start_over()
        self._put(variation.memory)
        boot(emulated, cpus, mem_encrypt=machine.mem_encrypt)
        interrupts_of(emulated)  # before anything is watched

    def name(self, address: int) -> str:
        """What is at an address, for reports."""
        if address not in self._names:
            self._names[address] = self.places.variable(address) or f"{address:#x}"
        return self._names[address]

    def line(self, address: int) -> str:
        """Likewise, and where there is no variable: a stack, a page."""
        physical = self.memory.physical(address)
        return self.name(address) if physical is None else self.places.line(address, physical)

    @property
    def endless_runs(self) -> int:
        """How many runs so far had no end."""
        return self._emulated.emulator.exhausted_runs

    @property
    def null_uses(self) -> NullUses:
        """How many runs so far ended where a pointer leads that is not set."""
        return self._emulated.emulator.null_uses

    @contextmanager
    def series(self) -> Iterator[None]:
        """To be entered around all runs, which are watched inside only."""
        with (
            self._emulated.emulator.series(),
            self._watched.emulator.series(),
            self._traced.emulator.series(),
            self._traced.emulator.stepped(self._recorder.note_instruction),
            self._traced.emulator.watched(self._recorder.note_access),
            self._watched.emulator.watched(self._note_access, self._variable),
            self._watched.emulator.blocks(self._note_block),
        ):
            yield

    def _note_access(self, address: int, size: int, is_write: bool) -> None:
        self._accesses.note(address, size, is_write)

    def _note_block(self, address: int, size: int) -> None:
        self._accesses.execute(address, size)

    def watched_boot(self, machine: RawMachine) -> Accesses:
        """What the derivation reads and executes.

        Raises:
            DerivationError: It did not end.
        """
        self._accesses = Accesses(self.memory)
        self._boot(machine, AS_GIVEN, _cpus(machine, nothing), self._watched)
        return self._accesses

    def restore(self, site: Site, booted: Booted) -> None:
        """The memory in which a site begins."""
        if site not in booted.begun:
            self.memory.put_back(booted.memory)
            self._begin(site, booted.cpus)
            booted.begun[site] = self.memory.kept()
        self.memory.put_back(booted.begun[site])

    def _begin(self, site: Site, cpus: Cpus) -> None:
        match site:
            case Site.STOP_THIS_CPU:
                begin_kexec(self.image, self.memory, online=len(cpus))
            case Site.RELOCATE_KERNEL:
                begin_kexec(self.image, self.memory, online=1)
            case Site.CRASH_NMI_CALLBACK:
                begin_crash(self.image, self.memory, crashing=cpus[0].number)

    def watched_site(self, site: Site, booted: Booted) -> Accesses:
        """What a site reads and executes from a kept state."""
        self._prepare(site, booted, AS_GIVEN)
        self._accesses = Accesses(self.memory)
        self._run_site(site, [_fork(cpu, nothing) for cpu in booted.cpus], self._watched)
        return self._accesses

    def traced_site(
        self, site: Site, booted: Booted, variation: Variation = AS_GIVEN
    ) -> Sequence[ExecutedInstruction]:
        """Every instruction that a site executes from a kept state."""
        self._prepare(site, booted, variation)
        self._recorder.steps = []
        self._forget_traced(variation.memory)
        self._run_site(site, [_fork(cpu, nothing) for cpu in booted.cpus], self._traced)
        self._forget_traced(variation.memory)
        return self._recorder.steps

    def traced_detour(
        self, site: Site, booted: Booted, way: Detour
    ) -> Sequence[ExecutedInstruction]:
        """The same where it goes another way once."""
        with self._traced.emulator.detour(way.address, way.visits, way.target):
            return self.traced_site(site, booted)

    def traces_within(self, limits: RunLimits) -> AbstractContextManager[None]:
        """Runs that are traced inside may take that much."""
        return self._traced.emulator.within(limits)

    def _forget_traced(self, memory: Mapping[int, bytes]) -> None:
        for address, content in memory.items():
            self._traced.emulator.forget_code(address, len(content))

    def is_constant(self, address: int) -> bool:
        """Does no running kernel change what is there, nor anything but the emulator?"""
        after = bisect_right(self._variable_from, address)
        return not after or address >= self._variable[after - 1].stop

    def runs_from(self, booted: Booted) -> RunSite:
        """Sites can be run from this state as often as wanted."""

        def run(site: Site, variation: Variation = AS_GIVEN) -> SiteRun:
            self._prepare(site, booted, variation)
            forks = [_fork(cpu, variation.flips) for cpu in booted.cpus]
            decision = self._run_site(site, forks, self._emulated)
            record = tuple(chain.from_iterable(fork.record.items() for fork in forks))
            flushes = sum(len(fork.flushes) for fork in forks)
            return SiteRun(decision, _asked(forks), record, flushes)

        return run

    def detoured_run(self, site: Site, booted: Booted, detour: Detour) -> SiteRun:
        """A site from a kept state, which goes another way once."""
        with self._emulated.emulator.detour(detour.address, detour.visits, detour.target):
            return self.runs_from(booted)(site)

    def _prepare(self, site: Site, booted: Booted, variation: Variation) -> None:
        """The state of then, with these changes."""
        self.restore(site, booted)
        self._put(variation.memory)

    def _put(self, memory: Mapping[int, bytes]) -> None:
        """Other bytes into memory that has just been put back."""
        self._forget(self._changed)
        for address, content in memory.items():
            self.memory.write(address, content)
        self._forget(memory)
        self._changed = memory

    def _run_site(
        self, site: Site, cpus: Sequence[VariedCpu], emulated: EmulatedMachine
    ) -> SiteDecision:
        try:
            return self.at_site(site, cpus, emulated)
        except NobodyShotDownError as error:
            return SiteDecision(None, str(error), astray=True)
        except DerivationError as error:
            return SiteDecision(None, str(error))

    @abstractmethod
    def at_site(
        self, site: Site, cpus: Sequence[VariedCpu], emulated: EmulatedMachine
    ) -> SiteDecision:
        """Run a site, in memory that is as it begins.

        Raises:
            DerivationError: It could not be run.
        """

    def _forget(self, memory: Mapping[int, bytes]) -> None:
        """Code among what was changed must be translated again."""
        for address, content in memory.items():
            if address in self.text:
                # The others run nothing but what was given.
                self._emulated.emulator.forget_code(address, len(content))


def _cpus(machine: RawMachine, flips: Flips) -> Cpus:
    return two_cpus(machine, partial(VariedCpu, flips=flips))


def _asked(cpus: Sequence[VariedCpu]) -> dict[Register, int]:
    return {register: mask for cpu in cpus for register, mask in cpu.asked.items()}


def _fork(cpu: VariedCpu, flips: Flips) -> VariedCpu:
    """The same CPU, asking the hardware afresh; what it does leaves the first one alone."""
    fork = cpu.going_on_as(cpu, {})
    fork.asked, fork.flips = {}, flips
    return fork

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel image does on a machine, read by running the image's own code."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from staleline.kernel.boot.decision import Decision, OfflineWay, SiteDecision
from staleline.kernel.boot.machine import EmulatedMachine, two_cpus
from staleline.kernel.boot.startup import boot, boot_once, read_sme_active, start_up, start_up_told
from staleline.kernel.boot.unreadcode import unread_code
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.traps import Answer, LogicalCpu, Question
from staleline.kernel.sites.crash import run_crash
from staleline.kernel.sites.jump import run_relocate_kernel
from staleline.kernel.sites.kexecstate import begin_crash, begin_kexec
from staleline.kernel.sites.offline import offline_ways
from staleline.kernel.sites.sites import at_rest, run_stop_by_nmi, run_stop_this_cpu, stopped_by_way
from staleline.kernel.sites.stoppath import way_to_kexec
from staleline.kernel.sites.wholeway import (
    asked_where_it_runs,
    led_to_crash,
    led_to_kexec,
    rewritten_inputs,
)
from staleline.vocabulary import Site

if TYPE_CHECKING:
    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.emulator.memory import KeptMemory
    from staleline.kernel.image.image import KernelImage

__all__ = ["KernelReader", "MachineRun", "Start", "unknown_decision"]


@dataclass(frozen=True, slots=True)
class MachineRun:
    """One machine's answer, and what it depended on.

    Attributes:
        decision: The answer.
        record: What the kernel asked after its startup code, in order, and was answered.
        exhausted: Some function ran out of time or instructions.
    """

    decision: Decision
    record: Mapping[Question, Answer]
    exhausted: bool


@dataclass(frozen=True, slots=True)
class Start:
    """What the startup code left.

    Attributes:
        state: Equal for two machines only if nothing that follows can tell them apart, but
            by asking the hardware: the kernel's memory, and what the CPU keeps.
        record: What the startup code asked, in order, and was answered.
        exhausted: It ran out of time or instructions.
    """

    state: Hashable
    record: Mapping[Question, Answer]
    exhausted: bool


class KernelReader:
    """Answers for one image; keep it for many machines, the first costs most.

    Not for use by several threads at once.
    """

    def __init__(self, image: KernelImage) -> None:
        self._emulated = EmulatedMachine(image, in_places=False)
        self._alike_left = set[Hashable]()

    def decide(self, machine: RawMachine) -> Decision:
        """Boot the image on `machine` and let it kexec.

        "No flush" is answered only if every derivation step returned and the site ran to
        its end; otherwise the site is unknown and says why.
        """
        return self.run(machine).decision

    def run(self, machine: RawMachine) -> MachineRun:
        """The same, and what the kernel asked of the machine after its startup code."""
        cpus, exhausted = _cpus(machine), self._emulated.emulator.exhausted_runs
        with self._emulated.emulator.series():
            try:
                decision = self._run(machine, cpus)
            except DerivationError as error:
                decision = unknown_decision(str(error))
        return MachineRun(
            _with_record(decision, *cpus),
            cpus[0].record,
            exhausted=self._emulated.emulator.exhausted_runs > exhausted,
        )

    def encrypts(self, machine: RawMachine, command_line: str) -> bool | None:
        """Start the image on `machine` as the next kernel: does it encrypt its memory?

        Its own code looks at CPUID, SYSCFG and the command line, so what it was built with
        (CONFIG_AMD_MEM_ENCRYPT and, up to 6.7, ..._ACTIVE_BY_DEFAULT) is seen too. None if
        that code did not return or its result cannot be read; `machine.mem_encrypt` is not
        looked at.
        """
        cpu = _cpus(machine)[0]
        self._emulated.start_over()
        with self._emulated.emulator.series():
            try:
                start_up_told(self._emulated, cpu, command_line)
                return read_sme_active(self._emulated.image, self._emulated.memory)
            except DerivationError:
                return None

    def offline_ways(self, machine: RawMachine) -> tuple[OfflineWay, ...]:
        """Boot the image on `machine` and let the secondary go offline in each way."""
        with self._emulated.emulator.series():
            try:
                cpus = _cpus(machine)
                boot_once(self._emulated, machine, cpus)
                return offline_ways(self._emulated, cpus[1])
            except DerivationError as error:
                return (OfflineWay("a CPU that goes offline", SiteDecision(None, str(error))),)

    def series(self) -> AbstractContextManager[object]:
        """Enter it around many runs: they are then watched by one thread."""
        return self._emulated.emulator.series()

    @contextmanager
    def starts(self) -> Iterator[Callable[[RawMachine], Start]]:
        """A function that runs the startup code alone, and finds out what it left.

        Ask it for all machines before the first `run`: watching drops translated code.
        """
        before: dict[int, int] = {}

        def start(machine: RawMachine) -> Start:
            before.clear()
            cpu, exhausted = _cpus(machine)[0], self._emulated.emulator.exhausted_runs
            failure = self._start_up(machine, cpu)
            cells = (
                (address, self._emulated.memory.read(address, 1)[0]) for address in sorted(before)
            )
            changed = tuple((address, now) for address, now in cells if now != before[address])
            return Start(
                (changed, cpu.kept, failure),
                cpu.record,
                exhausted=self._emulated.emulator.exhausted_runs > exhausted,
            )

        with (
            self._emulated.emulator.series(),
            self._emulated.emulator.watched(partial(self._note_write, before)),
        ):
            yield start

    def _start_up(self, machine: RawMachine, cpu: LogicalCpu) -> str:
        """Run the startup code; the reason if it did not return."""
        self._emulated.start_over()
        try:
            start_up(self._emulated, cpu, mem_encrypt=machine.mem_encrypt)
        except DerivationError as error:
            return str(error)
        return ""

    def _note_write(self, before: dict[int, int], address: int, size: int, is_write: bool) -> None:
        """Keep what the kernel's memory held before a write."""
        if is_write and not self._emulated.memory.is_ram(address):
            for at, byte in enumerate(self._emulated.memory.read(address, size), address):
                before.setdefault(at, byte)

    def _run(self, machine: RawMachine, cpus: tuple[LogicalCpu, LogicalCpu]) -> Decision:
        emulated, image, memory = self._emulated, self._emulated.image, self._emulated.memory
        jumping, secondary = cpus
        self._emulated.start_over()
        boot(emulated, cpus, mem_encrypt=machine.mem_encrypt)
        sme_active = read_sme_active(image, memory)
        begin_kexec(image, memory, online=len(cpus))
        rewritten = rewritten_inputs(image)
        asked = rewritten | dict(asked_where_it_runs(emulated, cpus, sme_active=sme_active))
        way = led_to_kexec(emulated, cpus, way_to_kexec(emulated, cpus))
        by_nmi = run_stop_by_nmi(emulated, cpus, way)
        stop = run_stop_this_cpu(emulated, secondary, jumping=jumping)
        stop = at_rest(emulated, stopped_by_way(stop, way, by_nmi))
        begin_kexec(image, memory, online=1)
        relocate = self._jump(
            jumping, machine, None if sme_active in self._alike_left else way.left
        )
        if relocate.flushes:
            # Where both jumps are alike on one machine, they are on the others of its kind: who
            # writes to what a flush depends on is looked for in the code (`led_to_kexec`).
            self._alike_left.add(sme_active)
        begin_crash(image, memory, crashing=jumping.number)
        crash = led_to_crash(emulated, run_crash(emulated, cpus))
        decision = Decision(
            stop_this_cpu=_unless(asked.get(Site.STOP_THIS_CPU), stop.decision),
            relocate_kernel=_unless(way.to_jump or asked.get(Site.RELOCATE_KERNEL), relocate),
            crash_nmi_callback=crash.crash_nmi_callback,
            crash_relocate_kernel=_unless(
                rewritten.get(Site.RELOCATE_KERNEL), crash.relocate_kernel
            ),
            reported_stopped=stop.reported_stopped,
            sme_active=sme_active,
            stops=stop.stops,
            # It is known only of a CPU that has come to rest.
            crash_stops=None if crash.crash_nmi_callback.flushes is None else True,
        )
        unread = unread_code(image, jumping)
        return decision if unread is None else _unread_decision(decision, unread)

    def _jump(self, cpu: LogicalCpu, machine: RawMachine, left: KeptMemory | None) -> SiteDecision:
        """Let the jumping CPU go on, in memory as it is and in that which its own shutdown left.

        Of two answers the one without a flush counts. Memory is then as the first one left it.
        """
        emulated, context = self._emulated, machine.preserve_context
        decision = run_relocate_kernel(emulated, cpu, preserve_context=context)
        if not decision.flushes or left is None:
            return decision
        kept = emulated.memory.kept()
        emulated.memory.put_back(left)
        try:
            other = cpu.going_on_as(cpu, cpu.record)
            again = run_relocate_kernel(emulated, other, preserve_context=context)
            return decision if again.flushes else again
        finally:
            emulated.memory.put_back(kept)


def _unless(reason: str | None, decision: SiteDecision) -> SiteDecision:
    """The decision, unless there is a reason why it does not hold."""
    return decision if reason is None else SiteDecision(None, reason)


def _cpus(machine: RawMachine) -> tuple[LogicalCpu, LogicalCpu]:
    """The jumping CPU and the secondary, with one record."""
    return two_cpus(machine, partial(LogicalCpu, record={}))


def unknown_decision(reason: str) -> Decision:
    """Nothing is known of any site."""
    site = SiteDecision(None, reason)
    return Decision(site, site, site, site, None, None)


def _unread_decision(decision: Decision, reason: str) -> Decision:
    """What was found by running, in so far as it is unknown or that nobody is stopped."""
    sites = (
        decision.stop_this_cpu,
        decision.relocate_kernel,
        decision.crash_nmi_callback,
        decision.crash_relocate_kernel,
    )
    unread = SiteDecision(None, reason)
    stop, jump, crash, crash_jump = (unread if site.unknown is None else site for site in sites)
    return replace(
        decision,
        stop_this_cpu=stop,
        relocate_kernel=jump,
        crash_nmi_callback=crash,
        crash_relocate_kernel=crash_jump,
        reported_stopped=None,
        stops=decision.stops and None,
        crash_stops=decision.crash_stops and None,
    )


def _with_record(decision: Decision, *cpus: LogicalCpu) -> Decision:
    """Add what was asked; a decisive leaf that no dump recorded makes it all unknown."""
    gaps = [(cpu, leaf) for cpu in cpus if (leaf := cpu.decisive_leaf_missing) is not None]
    if gaps:
        cpu, leaf = gaps[0]
        decision = unknown_decision(f"CPUID leaf {leaf:#x} of CPU {cpu.number} is not recorded")
    return replace(
        decision,
        traps=sum(cpu.traps for cpu in cpus),
        leaves_read=frozenset().union(*(cpu.leaves_read for cpu in cpus)),
        msrs_read=frozenset().union(*(cpu.msrs_read for cpu in cpus)),
    )

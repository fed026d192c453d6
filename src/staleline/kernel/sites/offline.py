# SPDX-License-Identifier: GPL-2.0-or-later
"""Run what a CPU does when it goes offline.

That is no site of the handover: a CPU that is offline at kexec has been through it. Running it
shows whether the caches were written back by then, and whether anything was stored behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from staleline.hardware import MASK_64
from staleline.kernel.boot.decision import OfflineWay, SiteDecision
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.execution.end import EndKind
from staleline.kernel.emulator.layout import IDLE_PORT, KIMAGE
from staleline.kernel.image.symbols import required_address
from staleline.kernel.opcodes import HLT, RET
from staleline.kernel.sites.afterflush import stores_offline
from staleline.kernel.sites.ending import site_decision

if TYPE_CHECKING:
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.traps import LogicalCpu

__all__ = ["offline_ways"]

_MWAIT: Final = b"\x0f\x01\xc9"
_NOP: Final = b"\x0f\x1f\x00"
_SLEEPS: Final = {_MWAIT: "MWAIT"}
_NATIVE: Final = "native_play_dead"
_BY_DRIVER: Final = "mwait_play_dead"
_BY_ACPI: Final = "acpi_idle_play_dead"
#: ACPI_CSTATE_HALT and ACPI_CSTATE_SYSTEMIO (include/acpi/processor.h, 5.10 to 7.3); with
#: ACPI_CSTATE_FFH it returns, or calls ``mwait_play_dead()``.
_METHODS: Final = ((2, "HLT"), (0, "an I/O port"))
#: Per CPU, pointers to ``struct acpi_processor_cx`` (drivers/acpi/processor_idle.c).
_STATES: Final = "acpi_cstate"
_STATE_ADDRESS: Final = 4
_STATE_METHOD: Final = 8
#: In ``struct cpuidle_device`` (include/linux/cpuidle.h, 5.10 to 7.3).
_DEVICE_CPU: Final = 4
_STATE_BEHIND_DEVICE: Final = 0x200
_KICK: Final = "smp_kick_mwait_play_dead"
#: Per CPU a struct mwait_cpu_dead, whose first member the kick sets to CPUDEAD_MWAIT_KEXEC_HLT
#: (linux 6.1.176 arch/x86/kernel/smpboot.c:109, 7.3.4 :115).
_STATE: Final = "mwait_cpu_dead"
_TO_HLT: Final = 0x4A17_DEAD
#: Hands the CPU's memory map back, which an emulated CPU does not have (kernel/sched/core.c).
_IDLE_TASK_EXIT: Final = "idle_task_exit"


def offline_ways(emulated: EmulatedMachine, cpu: LogicalCpu) -> tuple[OfflineWay, ...]:
    """Let a CPU go offline in each way that the image has."""
    symbols = emulated.image.symbols
    # Without a cpuidle driver.
    ways = [_GoingOffline(emulated, _NATIVE)]
    # As the drivers for MWAIT have it in kernels since 6.17 at the latest, with a hint (linux 7.3.4
    # arch/x86/kernel/acpi/cstate.c:209).
    if _BY_DRIVER in symbols:
        ways.append(_GoingOffline(emulated, _BY_DRIVER))
    # As the driver for ACPI's states has it, which halts or reads an I/O port
    # (drivers/acpi/processor_idle.c acpi_idle_play_dead(), 5.10 to 7.3).
    if _BY_ACPI in symbols:
        ways += [_ByAcpi(emulated, _BY_ACPI, method, how) for method, how in _METHODS]
    for address in emulated.image.symbols.addresses(_IDLE_TASK_EXIT):
        emulated.memory.write(address, RET)
    before, taken = emulated.memory.kept(), []
    for way in ways:
        taken.append(way.run(cpu.going_on_as(cpu, cpu.record)))
        emulated.memory.put_back(before)
    return tuple(taken)


@dataclass(frozen=True, slots=True)
class _GoingOffline:
    """A function in which CPUs go offline.

    Attributes:
        emulated: The machine, booted.
        function: Its name.
    """

    emulated: EmulatedMachine
    function: str

    def run(self, cpu: LogicalCpu) -> OfflineWay:
        """To where the CPU rests, and to where it does after a kick."""
        try:
            return self._run(cpu)
        except DerivationError as error:
            return OfflineWay(self._title, SiteDecision(None, str(error)))

    def _run(self, cpu: LogicalCpu) -> OfflineWay:
        before, other = self.emulated.memory.kept(), cpu.going_on_as(cpu, cpu.record)
        decision, place = self._to_rest(cpu)
        if self._code(place) != _MWAIT:
            return OfflineWay(self._name(place), decision)
        if _KICK not in self.emulated.image.symbols:
            return OfflineWay(self._name(place), decision, by_mwait=True)
        # Kicked before a kexec it stores that it woke, behind its flush, and halts (linux 7.3.4
        # arch/x86/kernel/smpboot.c:1459): the same once more, with a MWAIT that does not wait.
        self.emulated.memory.put_back(before)
        return OfflineWay(self._name(place), decision, self._woken(other, place), by_mwait=True)

    @property
    def _title(self) -> str:
        return f"{self.function}()"

    def _name(self, place: int) -> str:
        function = self.emulated.emulator.describe(place).split("+")[0]
        return f"{function}() by {_SLEEPS.get(self._code(place), 'HLT')}"

    def _arguments(self, _: LogicalCpu) -> tuple[int, ...]:
        """What is handed to the function, once what they point to is in memory."""
        # At most a hint, by which only the hardware goes.
        return (0,)

    def _to_rest(
        self, cpu: LogicalCpu, at_flush: Callable[[], None] | None = None
    ) -> tuple[SiteDecision, int]:
        address = required_address(self.emulated.image.symbols, self.function)
        flushes = len(cpu.flushes)
        end = self.emulated.emulator.run(address, self._arguments(cpu), cpu=cpu, at_flush=at_flush)
        done = len(cpu.flushes) - flushes
        # ACPI's driver halts with interrupts enabled, but none comes: the APIC of a CPU that goes
        # offline is disabled before (linux 7.3.4 arch/x86/kernel/smpboot.c:1403, 5.10.223 :1629).
        rested = replace(end, interruptible=False)
        decision = site_decision(self.emulated.emulator, rested, EndKind.HALTED, flushes=done)
        if decision.flushes and end.stores:
            left = stores_offline(self.emulated, end.stores)
            decision = replace(decision, stores=left)
        return decision, end.address

    def _woken(self, cpu: LogicalCpu, mwait: int) -> SiteDecision:
        """What the kick stores is there from the flush on, which is before any wait."""
        state = required_address(self.emulated.image.symbols, _STATE) + cpu.gs_base & MASK_64
        self.emulated.memory.write(mwait, _NOP)
        self.emulated.emulator.forget_code(mwait, len(_NOP))
        decision, place = self._to_rest(
            cpu, lambda: self.emulated.memory.write_int(state, _TO_HLT, 4)
        )
        self.emulated.memory.write(mwait, _MWAIT)
        self.emulated.emulator.forget_code(mwait, len(_MWAIT))
        if decision.flushes is not None and self._code(place)[:1] != HLT:
            where = self.emulated.emulator.describe(place)
            return SiteDecision(None, f"kicked out of MWAIT it does not halt, but rests at {where}")
        return decision

    def _code(self, address: int) -> bytes:
        return self.emulated.memory.read(address, len(_MWAIT))


@dataclass(frozen=True, slots=True)
class _ByAcpi(_GoingOffline):
    """What the driver for ACPI's states does, from its own function on.

    Attributes:
        method: Of ``struct acpi_processor_cx``.
        how: The same in words.
    """

    method: int
    how: str

    @property
    def _title(self) -> str:
        return f"{self.function}() by {self.how}"

    def _name(self, _: int) -> str:
        return self._title

    def _arguments(self, cpu: LogicalCpu) -> tuple[int, ...]:
        """``dev->cpu``, and of that CPU's first state the address and the method to enter it."""
        memory = self.emulated.memory
        # No kexec comes meanwhile, whose description would be there.
        device, state = KIMAGE.start, KIMAGE.start + _STATE_BEHIND_DEVICE
        memory.write(device, bytes(len(KIMAGE)))
        memory.write_int(device + _DEVICE_CPU, cpu.number, 4)
        memory.write_int(state + _STATE_ADDRESS, IDLE_PORT, 4)
        memory.write_int(state + _STATE_METHOD, self.method, 1)
        states = required_address(self.emulated.image.symbols, _STATES) + cpu.gs_base & MASK_64
        memory.write_int(states, memory.direct(state), 8)
        return memory.direct(device), 0

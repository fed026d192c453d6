# SPDX-License-Identifier: GPL-2.0-or-later
"""Run what a CPU does when it goes offline, and what TDX does before a kexec.

These are no sites of the handover: a CPU that is offline at kexec has been through the first,
and on a host that used TDX every CPU through the second (since 7.2). Running them shows whether
the caches were written back by then, and whether anything was stored behind it.

A CPU that waits in MWAIT is kicked before a kexec: it stores that it woke, behind its flush, and
halts (linux 7.3.4 arch/x86/kernel/smpboot.c:1459). That is run as well: the same once more, with
a MWAIT that does not wait and with what the kick stores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.emulator.emulator import EndKind
from staleline.kernel.image.symbols import required_address
from staleline.kernel.sites.afterflush import stores_offline
from staleline.kernel.sites.sites import site_decision

if TYPE_CHECKING:
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage

__all__ = ["PlayDead", "run_mwait_play_dead", "run_native_play_dead", "run_tdx_shutdown_cpu"]

_RETURN: Final = b"\xc3"
_HLT: Final = b"\xf4"
_MWAIT: Final = b"\x0f\x01\xc9"
_NOP: Final = b"\x0f\x1f\x00"
_MASK_64: Final = (1 << 64) - 1
_KICK: Final = "smp_kick_mwait_play_dead"
#: Per CPU a struct mwait_cpu_dead, whose first member the kick sets to CPUDEAD_MWAIT_KEXEC_HLT
#: (linux 6.1.176 arch/x86/kernel/smpboot.c:109, 7.3.4 :115).
_STATE: Final = "mwait_cpu_dead"
_TO_HLT: Final = 0x4A17_DEAD
#: Hands the CPU's memory map back, which an emulated CPU does not have (kernel/sched/core.c).
_IDLE_TASK_EXIT: Final = "idle_task_exit"
#: Counts who uses VMX, which nobody does here (arch/x86/virt/hw.c, linux 7.3.4).
_PUT_REFERENCE: Final = "x86_virt_put_ref"


@dataclass(frozen=True, slots=True)
class PlayDead:
    """What a CPU did on its way offline.

    Attributes:
        decision: Did it flush, and what did it store behind that until it rested?
        rests_in: The function in which it waits, by HLT or MWAIT.
        woken: The same when a kexec has kicked it out of MWAIT, until it halts; None where it
            waits in HLT, or the kernel kicks nobody.
    """

    decision: SiteDecision
    rests_in: str
    woken: SiteDecision | None = None


def run_native_play_dead(emulated: EmulatedMachine, cpu: LogicalCpu) -> PlayDead:
    """Let a CPU go offline without a cpuidle driver, as ``native_play_dead()`` has it.

    Raises:
        DerivationError: The image has no such function.
    """
    return _GoingOffline(emulated, "native_play_dead").run(cpu)


def run_mwait_play_dead(emulated: EmulatedMachine, cpu: LogicalCpu) -> PlayDead:
    """Let a CPU go offline as cpuidle drivers have it, in kernels since 6.17 at the latest.

    They call ``mwait_play_dead()`` with a hint (linux 7.3.4 arch/x86/kernel/acpi/cstate.c:209).

    Raises:
        DerivationError: The image has no such function.
    """
    return _GoingOffline(emulated, "mwait_play_dead").run(cpu)


@dataclass(frozen=True, slots=True)
class _GoingOffline:
    """A function in which CPUs go offline.

    Attributes:
        emulated: The machine, booted.
        function: Its name.
    """

    emulated: EmulatedMachine
    function: str

    def run(self, cpu: LogicalCpu) -> PlayDead:
        """To where the CPU rests, and to where it does after a kick."""
        _let_return(self.emulated.image, self.emulated.memory, _IDLE_TASK_EXIT)
        before, other = self.emulated.memory.kept(), cpu.going_on_as(cpu, cpu.record)
        decision, place = self._to_rest(cpu)
        rests_in = self.emulated.emulator.describe(place).split("+")[0]
        if self._code(place) != _MWAIT or _KICK not in self.emulated.image.symbols:
            return PlayDead(decision, rests_in)
        self.emulated.memory.put_back(before)
        return PlayDead(decision, rests_in, self._woken(other, place))

    def _to_rest(
        self, cpu: LogicalCpu, at_flush: Callable[[], None] | None = None
    ) -> tuple[SiteDecision, int]:
        address, flushes = (
            required_address(self.emulated.image.symbols, self.function),
            len(cpu.flushes),
        )
        end = self.emulated.emulator.run(address, (0,), cpu=cpu, at_flush=at_flush)
        done = len(cpu.flushes) - flushes
        decision = site_decision(self.emulated.emulator, end, EndKind.HALTED, flushes=done)
        if decision.flushes and end.stores:
            left = stores_offline(self.emulated, end.stores)
            decision = replace(decision, stores=left)
        return decision, end.address

    def _woken(self, cpu: LogicalCpu, mwait: int) -> SiteDecision:
        """What the kick stores is there from the flush on, which is before any wait."""
        state = required_address(self.emulated.image.symbols, _STATE) + cpu.gs_base & _MASK_64
        self.emulated.memory.write(mwait, _NOP)
        self.emulated.emulator.forget_code(mwait, len(_NOP))
        decision, place = self._to_rest(
            cpu, lambda: self.emulated.memory.write_int(state, _TO_HLT, 4)
        )
        self.emulated.memory.write(mwait, _MWAIT)
        self.emulated.emulator.forget_code(mwait, len(_MWAIT))
        if decision.flushes is not None and self._code(place)[:1] != _HLT:
            where = self.emulated.emulator.describe(place)
            return SiteDecision(None, f"kicked out of MWAIT it does not halt, but rests at {where}")
        return decision

    def _code(self, address: int) -> bytes:
        return self.emulated.memory.read(address, len(_MWAIT))


def run_tdx_shutdown_cpu(emulated: EmulatedMachine, cpu: LogicalCpu) -> SiteDecision:
    """Let a CPU do what ``tdx_shutdown()`` asks of each before a kexec (7.2 and later).

    Raises:
        DerivationError: The image has no such function.
    """
    _let_return(emulated.image, emulated.memory, _PUT_REFERENCE)
    before = len(cpu.flushes)
    end = emulated.emulator.run(
        required_address(emulated.image.symbols, "tdx_shutdown_cpu"), (0,), cpu=cpu
    )
    return site_decision(
        emulated.emulator, end, EndKind.RETURNED, flushes=len(cpu.flushes) - before
    )


def _let_return(image: KernelImage, memory: MachineMemory, function: str) -> None:
    for address in image.symbols.addresses(function):
        memory.write(address, _RETURN)

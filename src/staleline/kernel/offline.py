# SPDX-License-Identifier: GPL-2.0-or-later
"""Run what a CPU does when it goes offline, and what TDX does before a kexec.

These are no sites of the handover: a CPU that is offline at kexec has been through the first,
and on a host that used TDX every CPU through the second (since 7.2). Running them shows whether
the caches were written back by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from staleline.kernel.decision import SiteDecision
from staleline.kernel.derivation import required_address
from staleline.kernel.emulator import Emulator, EndKind
from staleline.kernel.sites import site_decision

if TYPE_CHECKING:
    from staleline.kernel.image import KernelImage
    from staleline.kernel.machine_memory import MachineMemory
    from staleline.kernel.traps import LogicalCpu

__all__ = ["PlayDead", "run_native_play_dead", "run_tdx_shutdown_cpu"]

_RETURN: Final = b"\xc3"
#: Hands the CPU's memory map back, which an emulated CPU does not have (kernel/sched/core.c).
_IDLE_TASK_EXIT: Final = "idle_task_exit"
#: Counts who uses VMX, which nobody does here (arch/x86/virt/hw.c, linux 7.3.4).
_PUT_REFERENCE: Final = "x86_virt_put_ref"


@dataclass(frozen=True, slots=True)
class PlayDead:
    """What a CPU did on its way offline.

    Attributes:
        decision: Did it flush?
        rests_in: The function in which it waits, by HLT or MWAIT.
    """

    decision: SiteDecision
    rests_in: str


def run_native_play_dead(
    image: KernelImage, memory: MachineMemory, emulator: Emulator, cpu: LogicalCpu
) -> PlayDead:
    """Let a CPU go offline without a cpuidle driver, as ``native_play_dead()`` has it.

    Raises:
        DerivationError: The image has no such function.
    """
    _let_return(image, memory, _IDLE_TASK_EXIT)
    before = len(cpu.flushes)
    end = emulator.run(required_address(image.symbols, "native_play_dead"), (), cpu=cpu)
    decision = site_decision(emulator, end, EndKind.HALTED, flushes=len(cpu.flushes) - before)
    return PlayDead(decision, emulator.describe(end.address).split("+")[0])


def run_tdx_shutdown_cpu(
    image: KernelImage, memory: MachineMemory, emulator: Emulator, cpu: LogicalCpu
) -> SiteDecision:
    """Let a CPU do what ``tdx_shutdown()`` asks of each before a kexec (7.2 and later).

    Raises:
        DerivationError: The image has no such function.
    """
    _let_return(image, memory, _PUT_REFERENCE)
    before = len(cpu.flushes)
    end = emulator.run(required_address(image.symbols, "tdx_shutdown_cpu"), (0,), cpu=cpu)
    return site_decision(emulator, end, EndKind.RETURNED, flushes=len(cpu.flushes) - before)


def _let_return(image: KernelImage, memory: MachineMemory, function: str) -> None:
    for address in image.symbols.addresses(function):
        memory.write(address, _RETURN)

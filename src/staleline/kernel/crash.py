# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the crash path: the crashing CPU shoots the others down by NMI and jumps.

``native_machine_crash_shutdown()`` is run from start to end, so that the kernel itself sets
``crashing_cpu`` and ``shootdown_callback``, and does whatever else its release does there
(since 7.2 ``tdx_sys_disable()``). Then a secondary takes the NMI in ``crash_nmi_callback()``,
and the crashing CPU goes through ``machine_kexec()``. Sources: arch/x86/kernel/crash.c and
reboot.c, linux 5.10.262 to 7.3.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from staleline.kernel.afterflush import as_in_crash, stores_after_nmi
from staleline.kernel.decision import SiteDecision
from staleline.kernel.derivation import DerivationError, required_address
from staleline.kernel.emulator import Emulator, EndKind
from staleline.kernel.sites import is_in, run_relocate_kernel, site_decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staleline.kernel.image import KernelImage
    from staleline.kernel.machine_memory import MachineMemory
    from staleline.kernel.traps import LogicalCpu

__all__ = ["CrashRun", "run_crash", "run_crash_nmi_callback"]

_REGISTERS: Final = 0x6000  # physical address of the interrupted code's struct pt_regs, zeros
_RESTING_PLACES: Final = ("crash_nmi_callback", "native_halt")
_NOTE_ALIGNMENT: Final = 4


@dataclass(frozen=True, slots=True)
class CrashRun:
    """What a secondary and the crashing CPU did."""

    crash_nmi_callback: SiteDecision
    relocate_kernel: SiteDecision


def run_crash(
    image: KernelImage, memory: MachineMemory, emulator: Emulator, cpus: Sequence[LogicalCpu]
) -> CrashRun:
    """Crash on the first of two CPUs; what stops short is unknown and says why."""
    try:
        callback = run_crash_nmi_callback(image, memory, emulator, cpus)
        relocate = run_relocate_kernel(image, memory, emulator, cpus[0])
        return CrashRun(
            callback,
            replace(relocate, stores=as_in_crash(relocate.stores)),
        )
    except DerivationError as error:
        site = SiteDecision(None, str(error))
        return CrashRun(site, site)


def run_crash_nmi_callback(
    image: KernelImage, memory: MachineMemory, emulator: Emulator, cpus: Sequence[LogicalCpu]
) -> SiteDecision:
    """Crash on the first of two CPUs, up to where the second has taken the NMI.

    Raises:
        DerivationError: The first did not shut the others down.
    """
    crashing, secondary = cpus
    _shut_down(image, memory, emulator, crashing)
    return _take_nmi(image, memory, emulator, secondary)


def _shut_down(
    image: KernelImage, memory: MachineMemory, emulator: Emulator, cpu: LogicalCpu
) -> None:
    _set_up_crash_notes(image, memory)
    function = required_address(image.symbols, "native_machine_crash_shutdown")
    end = emulator.run(function, (memory.direct(_REGISTERS),), cpu=cpu)
    if end.kind is not EndKind.RETURNED:
        what = end.detail or f"{end.kind} at {emulator.describe(end.address)}"
        raise DerivationError(f"native_machine_crash_shutdown() did not return: {what}")
    if not memory.read_int(required_address(image.symbols, "shootdown_callback"), 8):
        raise DerivationError("native_machine_crash_shutdown() shot nobody down")


def _take_nmi(
    image: KernelImage, memory: MachineMemory, emulator: Emulator, cpu: LogicalCpu
) -> SiteDecision:
    before = len(cpu.flushes)
    function = required_address(image.symbols, "crash_nmi_callback")
    end = emulator.run(function, (0, memory.direct(_REGISTERS)), cpu=cpu)
    wanted = EndKind.HALTED if is_in(image, end, _RESTING_PLACES) else None
    decision = site_decision(emulator, end, wanted, flushes=len(cpu.flushes) - before)
    if not decision.flushes or not end.stores:
        return decision
    return replace(decision, stores=stores_after_nmi(image, memory, end.stores))


def _set_up_crash_notes(image: KernelImage, memory: MachineMemory) -> None:
    """``crash_notes_memory_init()``, kernel/crash_core.c: here behind each per-CPU area."""
    end = required_address(image.symbols, "__per_cpu_end")
    notes = -(-end // _NOTE_ALIGNMENT) * _NOTE_ALIGNMENT
    memory.write_int(required_address(image.symbols, "crash_notes"), notes, 8)

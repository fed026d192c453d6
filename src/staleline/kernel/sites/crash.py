# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the crash path: the crashing CPU shoots the others down by NMI and jumps.

Sources: arch/x86/kernel/crash.c and reboot.c, linux 5.10.262 to 7.3.4.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from staleline.hardware import MASK_32
from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.derivation import DerivationError, NobodyShotDownError
from staleline.kernel.emulator.emulator import Emulator
from staleline.kernel.emulator.execution.end import End, EndKind
from staleline.kernel.emulator.layout import REGISTERS
from staleline.kernel.emulator.localapic import NMI_VECTOR
from staleline.kernel.image.symbols import required_address
from staleline.kernel.sites.afterflush import as_in_crash, stores_after_nmi
from staleline.kernel.sites.ending import CrashRun, is_in, site_decision
from staleline.kernel.sites.jump import run_relocate_kernel
from staleline.kernel.sites.stoppath import hook_name, interrupt_others, take_nmi, wakes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage

__all__ = [
    "end_crash_shutdown",
    "run_crash",
    "run_crash_nmi_callback",
    "run_jump_in_crash",
]

_SHUT_DOWN: Final = "machine_crash_shutdown"
#: What shuts down in a crash, at the end of whatever a hypervisor has put into ``machine_ops``.
_NATIVE: Final = "native_machine_crash_shutdown"
_CALLBACK: Final = "crash_nmi_callback"
_HALT: Final = "native_halt"
#: Registers the callback. Kernels with CONFIG_MSHV_ROOT have a second function of that name,
#: for a crash of the hypervisor (linux 7.3.4 arch/x86/hyperv/hv_crash.c:283).
_REGISTERING: Final = "nmi_shootdown_cpus"
_NOTE_ALIGNMENT: Final = 4


def run_crash(emulated: EmulatedMachine, cpus: Sequence[LogicalCpu]) -> CrashRun:
    """Crash on the first of two CPUs; what stops short is unknown and says why."""
    try:
        callback = run_crash_nmi_callback(emulated, cpus)
    except DerivationError as error:
        site = SiteDecision(None, str(error))
        return CrashRun(site, site)
    try:
        # To the end, with whatever else its release does there: since 7.2 ``tdx_sys_disable()``.
        end_crash_shutdown(emulated, cpus[0])
        return CrashRun(callback, run_jump_in_crash(emulated, cpus[0]))
    except DerivationError as error:
        return CrashRun(callback, SiteDecision(None, str(error)))


def end_crash_shutdown(emulated: EmulatedMachine, crashing: LogicalCpu) -> None:
    """Let the crashing CPU go on from its NMI until ``machine_crash_shutdown()`` returns.

    Raises:
        DerivationError: It did not return.
    """
    name, told = hook_name(emulated.image, emulated.memory, _SHUT_DOWN), len(crashing.commands)
    _go_on(emulated.emulator, crashing, name)
    woken = wakes(emulated, crashing, told)
    if woken is not None:
        raise DerivationError(woken)


def run_jump_in_crash(emulated: EmulatedMachine, crashing: LogicalCpu) -> SiteDecision:
    """Let the crashing CPU jump, once it has shut down."""
    jump = run_relocate_kernel(emulated, crashing)
    return replace(jump, stores=as_in_crash(jump.stores))


def run_crash_nmi_callback(emulated: EmulatedMachine, cpus: Sequence[LogicalCpu]) -> SiteDecision:
    """Crash on the first of two CPUs, up to where the second has taken the NMI.

    Raises:
        DerivationError: The first shot nobody down, or it is not known where an NMI leads.
    """
    crashing, secondary = cpus
    _set_up_crash_notes(emulated.image, emulated.memory)
    for name in (_NATIVE, _CALLBACK):
        if name not in emulated.image.symbols:
            raise DerivationError(f"the image has no symbol {name}")
    registers = emulated.memory.direct(REGISTERS.start)
    # Run to where it sends the NMI, so that the kernel itself says who is to take it.
    vector = interrupt_others(emulated, (crashing, secondary), _SHUT_DOWN, registers)
    if vector is None:
        raise NobodyShotDownError(
            f"{hook_name(emulated.image, emulated.memory, _SHUT_DOWN)}() shot nobody down"
        )
    # Nothing else reaches a CPU that has its interrupts disabled.
    if vector != NMI_VECTOR:
        raise DerivationError(f"{_SHUT_DOWN}() interrupts the other CPUs by vector {vector:#x}")
    before = len(secondary.flushes)
    end = take_nmi(emulated, secondary)
    wanted = EndKind.HALTED if _rests(emulated.image, end) else None
    decision = site_decision(
        emulated.emulator, end, wanted, flushes=len(secondary.flushes) - before
    )
    # The crashing CPU waits for a second at most, whether it hears of the others or not.
    rests = decision.unmodelled or (wanted is None and end.kind is EndKind.HALTED)
    decision = replace(decision, astray=end.kind is EndKind.RETURNED, unmodelled=rests)
    # Without a flush anything may be left behind, these lines among it.
    if not decision.flushes or not end.stores:
        return decision
    return replace(decision, stores=stores_after_nmi(emulated, end.stores))


def _rests(image: KernelImage, end: End) -> bool:
    """Did the run end where a CPU that was shot down has to stay?"""
    if is_in(image, end, (_HALT,)):
        return True
    enclosing = image.symbols.enclosing(end.address)
    registered = _registered(image)
    others = set(image.symbols.addresses(_CALLBACK)) - {registered}
    is_other = enclosing is not None and end.address - enclosing[1] in others
    return is_in(image, end, (_CALLBACK,)) and not (registered and is_other)


def _registered(image: KernelImage) -> int | None:
    """Of several callbacks the one that ``nmi_shootdown_cpus()`` refers to (since 6.1)."""
    start = image.symbols.only_address(_REGISTERING)
    size = None if start is None else image.symbols.size_of(_REGISTERING)
    if start is None or size is None:
        return None
    code = image.read(start, size)
    callbacks = image.symbols.addresses(_CALLBACK)
    referred = [one for one in callbacks if (one & MASK_32).to_bytes(4, "little") in code]
    return referred[0] if len(referred) == 1 else None


def _go_on(emulator: Emulator, cpu: LogicalCpu, name: str) -> None:
    end = emulator.go_on(cpu)
    if end.kind is not EndKind.RETURNED:
        raise DerivationError(f"{name}() did not return: {emulator.told(end)}")


def _set_up_crash_notes(image: KernelImage, memory: MachineMemory) -> None:
    """``crash_notes_memory_init()``, kernel/crash_core.c: here behind each per-CPU area."""
    end = required_address(image.symbols, "__per_cpu_end")
    notes = -(-end // _NOTE_ALIGNMENT) * _NOTE_ALIGNMENT
    # Each CPU that is shot down saves its registers there (arch/x86/kernel/crash.c
    # crash_save_cpu()).
    memory.write_int(required_address(image.symbols, "crash_notes"), notes, 8)

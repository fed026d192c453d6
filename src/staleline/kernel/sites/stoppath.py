# SPDX-License-Identifier: GPL-2.0-or-later
"""The way from a kexec, or a crash, to the sites: who interrupts the other CPUs, and with what.

A kexec calls ``machine_shutdown()`` (kernel/kexec_core.c kernel_kexec()), a crash
``machine_crash_shutdown()`` (__crash_kexec()); both go through ``machine_ops`` and ``smp_ops``
to code that interrupts the others, and waits until they have stopped. The others come to their
site through their descriptor table. Nothing of this way is taken for granted: it is run.
Sources: arch/x86/kernel/smp.c and reboot.c, linux 5.10.262 to 7.3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from staleline.hardware import MASK_64
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.emulator import Emulator
from staleline.kernel.emulator.execution.end import End, EndKind
from staleline.kernel.emulator.localapic import NMI_VECTOR, REBOOT_VECTOR
from staleline.kernel.image.symbols import required_address
from staleline.kernel.sites.interrupts import interrupts_of
from staleline.kernel.sites.kexecstate import begin_kexec

if TYPE_CHECKING:
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.memory import KeptMemory, MachineMemory
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage

__all__ = [
    "REPORT_SIZE",
    "WayToKexec",
    "code_on_way",
    "forked",
    "hook_name",
    "interrupt_others",
    "report_address",
    "report_stopped",
    "reports_by_mask",
    "sends",
    "stop_others",
    "take_nmi",
    "wakes",
    "way_to_kexec",
]

_SHUT_DOWN: Final = "machine_shutdown"
_OPERATIONS: Final = "machine_ops"
#: Offset in struct machine_ops (arch/x86/include/asm/reboot.h, 5.10 to 7.3).
_MEMBERS: Final = {_SHUT_DOWN: 0x18, "machine_crash_shutdown": 0x20}
_ONLINE: Final = "__cpu_online_mask"
_REPORTS: Final = ("cpus_stop_mask", "stop_cpus_count", _ONLINE)
REPORT_SIZE: Final = 4
_ONLINE_COUNT: Final = "__num_online_cpus"
#: So often it has to look before it counts as waiting; a wait looks a million times.
_LOOKS: Final = 8
_MASK_SIZE: Final = 8
_COUNT_SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class WayToKexec:
    """How far ``machine_shutdown()`` gets.

    Attributes:
        to_stop: Why it does not lead the other CPUs to where they stop; None if it does.
        to_jump: Why it does not lead the jumping CPU on; None if it does.
        stops: It stops the other CPUs, as far as the jumping CPU is concerned; None if unknown.
        sent: Memory when the interrupt has been sent, in which the others take it; None where it
            is not.
        told: What is different in memory, address by address, when those who are slow have been
            sent an NMI; None where none is sent.
        left: Memory when it has returned; None where it has not.
    """

    to_stop: str | None
    to_jump: str | None
    stops: bool | None
    sent: KeptMemory | None = None
    left: KeptMemory | None = None
    told: Mapping[int, bytes] | None = None


def way_to_kexec(
    emulated: EmulatedMachine,
    cpus: tuple[LogicalCpu, LogicalCpu],
) -> WayToKexec:
    """Shut the machine down as for a kexec, and leave memory and CPUs as they are.

    What the others do when they are interrupted is told by `stop_others`; here they report
    themselves stopped at once.
    """
    before = emulated.memory.kept()
    jumping, secondary = forked(cpus)
    try:
        vector = sends(emulated, (jumping, secondary))
        if vector is None:
            return WayToKexec(f"{_SHUT_DOWN}() interrupts no other CPU", None, stops=False)
        if vector != REBOOT_VECTOR:
            return _nowhere(f"{_SHUT_DOWN}() interrupts the other CPUs by vector {vector:#x}")
        sent = emulated.memory.kept()
        if not _waits(emulated, jumping):
            return _nowhere(f"{_SHUT_DOWN}() does not wait until the other CPUs have stopped")
        report_stopped(emulated.image, emulated.memory)
        name = hook_name(emulated.image, emulated.memory, _SHUT_DOWN)
        told = len(jumping.commands)
        to_jump = _went_on(emulated.emulator, emulated.emulator.go_on(jumping), name)
        to_jump = to_jump or wakes(emulated, jumping, told)
        left = emulated.memory.kept() if to_jump is None else None
        return WayToKexec(None, to_jump, stops=True, sent=sent, left=left)
    except DerivationError as error:
        return _nowhere(str(error))
    finally:
        emulated.memory.put_back(before)


def code_on_way(emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu]) -> frozenset[int]:
    """Where each run of instructions without a jump begins by which the jumping CPU goes on.

    Others have stopped at once. What has sent them the interrupt and returns is left out.
    Memory and CPUs are left as they are.

    Raises:
        DerivationError: It interrupts nobody, or does not get there.
    """
    before = emulated.memory.kept()
    jumping, secondary = forked(cpus)
    begun: set[int] = set()
    try:
        if sends(emulated, (jumping, secondary)) is None:
            raise DerivationError(f"{_SHUT_DOWN}() interrupts no other CPU")
        report_stopped(emulated.image, emulated.memory)
        sending = emulated.image.symbols.start_of(jumping.commands[-1])
        with emulated.emulator.blocks(lambda address, _: begun.add(address)):
            emulated.emulator.go_on(jumping)
        return frozenset(at for at in begun if emulated.image.symbols.start_of(at) != sending)
    finally:
        emulated.memory.put_back(before)


def sends(
    emulated: EmulatedMachine,
    cpus: tuple[LogicalCpu, LogicalCpu],
) -> int | None:
    """The vector by which a kexec interrupts the others; None if it interrupts nobody.

    Memory and the first CPU are left as they are then.

    Raises:
        DerivationError: ``machine_shutdown()`` did not get there.
    """
    begin_kexec(emulated.image, emulated.memory, online=len(cpus))
    return interrupt_others(emulated, cpus, _SHUT_DOWN)


def forked(cpus: tuple[LogicalCpu, LogicalCpu]) -> tuple[LogicalCpu, LogicalCpu]:
    """CPUs in the same state, with the same record; what they do leaves the given ones alone."""
    first, second = (cpu.going_on_as(cpu, cpu.record) for cpu in cpus)
    return first, second


def _waits(emulated: EmulatedMachine, jumping: LogicalCpu) -> bool:
    """Does it go on looking while no other CPU reports itself stopped?"""
    # With a record of its own: it may ask more than one that finds the others stopped.
    waiting = jumping.going_on_as(jumping, dict(jumping.record))
    count = required_address(emulated.image.symbols, _ONLINE_COUNT)
    watched = [
        range(address, address + REPORT_SIZE) for address in (report_address(emulated.image), count)
    ]
    end = emulated.emulator.look_on(waiting, watched, _LOOKS)
    # It may give up later than it is looked at here; where it fails, that is told when it goes on.
    return end.kind is not EndKind.RETURNED


def _nowhere(reason: str) -> WayToKexec:
    return WayToKexec(reason, None, stops=None)


def wakes(emulated: EmulatedMachine, cpu: LogicalCpu, before: int) -> str | None:
    """Where it interrupts others that have stopped, or starts them again; None if it does not.

    Args:
        emulated: The machine.
        cpu: The jumping CPU.
        before: How often it had done so when they stopped.
    """
    later = cpu.commands[before:]
    # Where it was let to the interrupt, it goes on with the instruction that stores to the APIC.
    functions = [
        emulated.image.symbols.start_of(at) for at in cpu.commands[before - 1 : before + 1]
    ]
    if later and len(functions) > 1 and len(set(functions)) == 1:
        later = later[1:]
    if not later:
        return None
    where = emulated.emulator.describe(later[0])
    return f"the jumping CPU interrupts others at {where}, which have stopped"


def _went_on(emulator: Emulator, end: End, name: str) -> str | None:
    if end.kind is EndKind.RETURNED:
        return None
    return f"{name}() did not return: {emulator.told(end)}"


def report_stopped(image: KernelImage, memory: MachineMemory) -> None:
    """What the jumping CPU waits for: none but itself is left."""
    report = report_address(image)
    # The online mask keeps its own bit; a mask of those to stop, or a count, is 0 then.
    alone = report == image.symbols.address(_ONLINE)
    memory.write_int(report, int(alone), REPORT_SIZE)
    memory.write_int(required_address(image.symbols, _ONLINE_COUNT), 1, _COUNT_SIZE)


def report_address(image: KernelImage) -> int:
    """What ``native_stop_other_cpus()`` watches, and a secondary changes to report itself."""
    # A mask of CPUs since 6.5 and its backports, a counter in postings of commit 1f5e7eb7868e, the
    # online mask before.
    for name in _REPORTS[:-1]:
        address = image.symbols.address(name)
        if address is not None:
            return address
    return required_address(image.symbols, _REPORTS[-1])


def reports_by_mask(image: KernelImage) -> bool:
    """A secondary clears its bit there, and does not count."""
    return "stop_cpus_count" not in image.symbols or _REPORTS[0] in image.symbols


def _bring_online(
    image: KernelImage, memory: MachineMemory, cpus: tuple[LogicalCpu, LogicalCpu]
) -> None:
    """What ``set_cpu_online()`` of each CPU leaves (kernel/cpu.c, 5.10 to 7.3)."""
    mask = sum(1 << cpu.number for cpu in cpus)
    memory.write_int(required_address(image.symbols, _ONLINE), mask, _MASK_SIZE)
    memory.write_int(required_address(image.symbols, _ONLINE_COUNT), len(cpus), _COUNT_SIZE)


def interrupt_others(
    emulated: EmulatedMachine,
    cpus: tuple[LogicalCpu, LogicalCpu],
    function: str,
    *arguments: int,
) -> int | None:
    """Let the first CPU shut the machine down, up to where it interrupts the other.

    Returns:
        The vector; the CPU may `Emulator.go_on` from there. None if it interrupts nobody.

    Raises:
        DerivationError: It did not return.
    """
    _bring_online(emulated.image, emulated.memory, cpus)
    address = required_address(emulated.image.symbols, function)
    end = emulated.emulator.run(address, arguments, cpu=cpus[0], until_sent=True)
    if end.kind is EndKind.RETURNED:
        return None
    if end.kind is not EndKind.SENT:
        name = hook_name(emulated.image, emulated.memory, function)
        raise DerivationError(f"{name}() did not return: {emulated.emulator.told(end)}")
    return end.vector


def hook_name(image: KernelImage, memory: MachineMemory, function: str) -> str:
    """Name of what ``machine_ops`` has for one of its functions, or the function's own."""
    operations = image.symbols.only_address(_OPERATIONS)
    if operations is None or function not in _MEMBERS:
        return function
    hook = memory.read_int(operations + _MEMBERS[function], 8)
    name, offset = image.symbols.enclosing(hook) or (function, 0)
    return function if offset else name


def stop_others(
    emulated: EmulatedMachine,
    cpu: LogicalCpu,
    at_flush: Callable[[], None] | None = None,
) -> End:
    """Let a CPU take the interrupt that tells it to stop.

    Raises:
        DerivationError: It is not known where that leads.
    """
    interrupts = interrupts_of(emulated)
    if interrupts.stack is not None:
        # Its handler switches to that.
        variable, value = interrupts.stack
        emulated.memory.write_int((variable + cpu.gs_base) & MASK_64, value, 8)
    return emulated.emulator.interrupt(interrupts.gate(REBOOT_VECTOR), cpu=cpu, at_flush=at_flush)


def take_nmi(
    emulated: EmulatedMachine,
    cpu: LogicalCpu,
    at_flush: Callable[[], None] | None = None,
) -> End:
    """Let a CPU take an NMI.

    Raises:
        DerivationError: It is not known where that leads.
    """
    gate = interrupts_of(emulated).gate(NMI_VECTOR)
    return emulated.emulator.interrupt(gate, cpu=cpu, at_flush=at_flush)

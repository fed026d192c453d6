# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the interrupts of the stop protocol lead, and the stacks that their handlers want."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from staleline.evidence.registers import CpuidTable
from staleline.hardware import MASK_64
from staleline.kernel.boot.patches import apply_always
from staleline.kernel.boot.percpu import PerCpu
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.layout import INTERRUPT_STACK
from staleline.kernel.emulator.localapic import NMI_VECTOR, REBOOT_VECTOR
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.image.image import KernelImage
from staleline.kernel.opcodes import HLT, RETURN_ZERO

if TYPE_CHECKING:
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.memory import MachineMemory

__all__ = ["Interrupts", "interrupts_of"]

#: The kernel's own code fills the interrupt descriptor table (arch/x86/kernel/idt.c, 5.10 to 7.3),
#: and says where each CPU keeps its interrupt stack (irq_64.c).
_SET_UP_GATES: Final = ("idt_setup_traps", "idt_setup_apic_and_irq_gates")
_SET_UP_STACK: Final = "irq_init_percpu_irqstack"
_TABLE: Final = "idt_table"
_GATE_SIZE: Final = 16
_PRESENT_INTERRUPT_GATE: Final = 0x8E
_DPL: Final = 0x60


@dataclass(frozen=True, slots=True)
class Interrupts:
    """What is the same on all machines.

    Attributes:
        gates: Vector -> address of the code that it leads to; those of the stop protocol that
            the image's code set up.
        stack: Link address of the per-CPU variable that holds the interrupt stack, and what it
            holds; None if the kernel has no such variable, or its code does not tell.
    """

    gates: Mapping[int, int]
    stack: tuple[int, int] | None

    def gate(self, vector: int) -> int:
        """Where a vector leads.

        Raises:
            DerivationError: The kernel's code did not set it up.
        """
        if vector not in self.gates:
            raise DerivationError(f"where interrupt {vector:#x} leads could not be established")
        return self.gates[vector]


_KNOWN: WeakKeyDictionary[KernelImage, Interrupts] = WeakKeyDictionary()


def interrupts_of(emulated: EmulatedMachine) -> Interrupts:
    """Find it out, or say it again for the same image; memory is left as it is."""
    # None of that code looks at the machine, so once is enough for an image.
    interrupts = _KNOWN.get(emulated.image)
    if interrupts is None:
        before = emulated.memory.kept()
        # As the image has it, with nothing in it of the machine that is run meanwhile.
        emulated.memory.reset()
        emulated.emulator.prepare_ram()
        try:
            interrupts = _found(emulated)
        finally:
            emulated.memory.put_back(before)
        _KNOWN[emulated.image] = interrupts
    return interrupts


def _found(emulated: EmulatedMachine) -> Interrupts:
    apply_always(emulated.image, emulated.memory)
    answers = _answers(emulated.memory)
    stubs = [
        (a, code) for name, code in answers.items() for a in emulated.image.symbols.addresses(name)
    ]
    for address, code in stubs:
        emulated.memory.write(address, code)
    cpus = [LogicalCpu(number, CpuidTable({}), {}) for number in range(2)]
    try:
        stack = _stack(emulated, cpus[1])
        return Interrupts(_gates(emulated, cpus[0]), stack)
    finally:
        # Memory is put back by the caller, what was translated is not.
        for address, code in stubs:
            emulated.emulator.forget_code(address, len(code))


def _answers(memory: MachineMemory) -> Mapping[str, bytes]:
    """What is asked of the memory management -> code that answers."""
    stack = memory.direct(INTERRUPT_STACK.start).to_bytes(8, "little")
    return {
        # The table is mapped once more and made read-only there, the stack's pages are looked up
        # and mapped (linux 7.3.4 arch/x86/kernel/idt.c:286,322, irq_64.c:44,49).
        "cea_set_pte": RETURN_ZERO,
        "set_memory_ro": RETURN_ZERO,
        "per_cpu_ptr_to_phys": RETURN_ZERO,
        "vmap": b"\x48\xb8" + stack + b"\xc3",
        "panic": HLT,
        "vpanic": HLT,
    }


def _gates(emulated: EmulatedMachine, cpu: LogicalCpu) -> Mapping[int, int]:
    """Whether the functions returned does not matter; a gate that is there is there."""
    cpu.gs_base = PerCpu(emulated.image, emulated.memory).early_offset
    table = emulated.image.symbols.address(_TABLE)
    for name in _SET_UP_GATES:
        address = emulated.image.symbols.address(name)
        if address is not None:
            emulated.emulator.run(address, (), cpu=cpu)
    if table is None:
        return {}
    gates = {
        v: emulated.memory.read(table + _GATE_SIZE * v, _GATE_SIZE)
        for v in (NMI_VECTOR, REBOOT_VECTOR)
    }
    return {
        # Of long mode's 16 bytes these are the address (AMD APM volume 2, 4.8).
        vector: int.from_bytes(gate[0:2] + gate[6:12], "little")
        for vector, gate in gates.items()
        # Who may raise it by an instruction does not matter here.
        if gate[5] & ~_DPL == _PRESENT_INTERRUPT_GATE
    }


def _stack(emulated: EmulatedMachine, cpu: LogicalCpu) -> tuple[int, int] | None:
    """By what the kernel stores, in the CPU's per-CPU area, when it is told where the pages are."""
    areas = PerCpu(emulated.image, emulated.memory)
    areas.set_up_areas(cpu.number + 1)
    cpu.gs_base = areas.offset(cpu.number)
    before = emulated.memory.kept()
    set_up = emulated.image.symbols.address(_SET_UP_STACK)
    if set_up is not None:
        emulated.emulator.run(set_up, (cpu.number,), cpu=cpu)
    start = areas.linked.start + cpu.gs_base & MASK_64
    area = range(start, start + len(areas.linked))
    mapped = range(*map(emulated.memory.direct, (INTERRUPT_STACK.start, INTERRUPT_STACK.stop + 1)))
    # Without CONFIG_VMAP_STACK they are in that area themselves.
    for address, _, became in emulated.memory.changes(before, emulated.memory.kept()):
        value = int.from_bytes(became, "little")
        if address in area and (value in mapped or value in area):
            return areas.linked.start + address - start, value
    return None

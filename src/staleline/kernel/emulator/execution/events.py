# SPDX-License-Identifier: GPL-2.0-or-later
"""What code does that an engine does not do by itself, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import unicorn
from unicorn import x86_const as x86

from staleline.hardware import MASK_32, RAX, RCX
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.execution.end import End, EndKind, NullUses
from staleline.kernel.emulator.execution.unmodelled import is_unmodelled
from staleline.kernel.emulator.layout import APIC, ENTRY_GATE, IDLE_PORT, PAGE, RETURN_GATE, SHADOW
from staleline.kernel.emulator.localapic import (
    INTERRUPT_COMMAND,
    INTERRUPT_COMMAND_MSR,
    commanded_vector,
    is_for_others,
)
from staleline.kernel.emulator.refused import (
    LONGEST_INSTRUCTION,
    Operation,
    RefusedInstruction,
    decode_refused,
)
from staleline.kernel.emulator.traps import CpuState, answer

if TYPE_CHECKING:
    from staleline.kernel.emulator.execution.cpuregisters import CpuRegisters
    from staleline.kernel.emulator.execution.run import EngineRun
    from staleline.kernel.emulator.hooks import Hooks
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.emulator.notedstores import NotedStores

__all__ = ["Events", "KnownCode", "code_at"]

_GENERAL_PROTECTION: Final = 13
_INTERRUPTS_ENABLED: Final = 1 << 9  # EFLAGS.IF
_BREAKPOINT: Final = 3
_INVALID_OPCODE: Final = 6
_ANSWERED: Final = 1  # tells Unicorn not to execute the CPUID itself

#: PCI configuration mechanism 1, with nothing on the bus: K8 and family 10h identification
#: look at their northbridge (arch/x86/kernel/cpu/amd.c early_init_amd(), 5.10 to 7.3).
_PCI_ADDRESS: Final = 0xCF8
_PCI_DATA: Final = range(0xCFC, 0xD00)
_NO_DEVICE: Final = 0xFFFF_FFFF

_BAD: Final = {
    unicorn.UC_MEM_READ_UNMAPPED: "read of unmapped address",
    unicorn.UC_MEM_WRITE_UNMAPPED: "write to unmapped address",
    unicorn.UC_MEM_FETCH_UNMAPPED: "jump to unmapped address",
    unicorn.UC_MEM_WRITE_PROT: "write to the kernel's code at",
}
_UNMODELLED: Final = "fault or unmodelled instruction"
_EXCEPTIONS: Final = {
    0: "divide error",
    1: "debug trap",
    3: "int3",
    6: "invalid opcode",
    14: "page fault",
}


@dataclass(frozen=True, slots=True)
class KnownCode:
    """What is known of the code that is run.

    Attributes:
        name: Turns an address into text for the reasons, e.g. ``stop_this_cpu+0x4f``.
        warnings: Gives the addresses of undefined instructions that only warn; asked when
            one is met.
        fixups: Gives address -> where the kernel goes on, for instructions that may raise
            #UD; asked when one does.
    """

    name: Callable[[int], str]
    warnings: Callable[[], Container[int]]
    fixups: Callable[[], Mapping[int, int]]

    def failed(self, address: int, detail: str, *, unmodelled: bool = False) -> End:
        """The end of a run that met there what it may not."""
        what = f"{detail} at {self.name(address)}"
        return End(EndKind.FAILED, address, what, unmodelled=unmodelled)


def code_at(memory: MachineMemory, address: int) -> bytes:
    """As many bytes as an instruction there may have."""
    try:
        return memory.read(address, LONGEST_INSTRUCTION)
    except DerivationError:  # the last page
        return memory.read(address, PAGE - address % PAGE)


class Events:
    """Answers what the code of one engine asks.

    Attributes:
        goes_elsewhere: Behind a WBINVD runs go on in another engine.
        null_uses: How many runs so far ended where a pointer leads that is not set.

    Args:
        engine: Where the code runs.
        run: What it runs.
        registers: Of the CPU.
        memory: What the code addresses.
        code: What is known of it.
    """

    def __init__(
        self,
        engine: unicorn.Uc,
        run: EngineRun,
        registers: CpuRegisters,
        memory: MachineMemory,
        code: KnownCode,
    ) -> None:
        self._engine, self._run, self._registers = engine, run, registers
        self._memory, self._code = memory, code
        self._sending = memory.sending_calls
        self._notes: NotedStores | None = None
        self.goes_elsewhere = True
        self.null_uses = NullUses()

    def install(self, hooks: Hooks) -> None:
        """Have the engine tell of them."""
        hooks.add(unicorn.UC_HOOK_INTR, self._on_exception)
        hooks.add(unicorn.UC_HOOK_INSN_INVALID, self._on_invalid)
        hooks.add(unicorn.UC_HOOK_MEM_INVALID, self._on_bad_access)
        hooks.add_instruction(x86.UC_X86_INS_CPUID, self._on_cpuid)
        hooks.add_instruction(x86.UC_X86_INS_IN, self._on_port_in)
        hooks.add_instruction(x86.UC_X86_INS_OUT, self._on_port_out)
        hooks.add_device(APIC, self._on_apic_read, self._on_apic_write)

    def note_in(self, notes: NotedStores) -> None:
        """What code stores is noted there, also where it goes on behind a WBINVD."""
        self._notes, self.goes_elsewhere = notes, False

    def _fail(self, detail: str, *, unmodelled: bool = False) -> None:
        address = self._registers.address
        self._run.stop(self._code.failed(address, detail, unmodelled=unmodelled))

    def _on_cpuid(self) -> int:
        # Ring 3 may execute CPUID: this hook of Unicorn's lies inside the instruction.
        cpu = self._run.terms.cpu
        cpu.traps += 1
        self._registers.answer(cpu.execute_cpuid(*self._registers.asked()))
        return _ANSWERED

    def _on_port_in(self, port: int, _size: int) -> int:
        if port == IDLE_PORT:
            self._run.stop(End(EndKind.HALTED, self._registers.address))
        elif port not in _PCI_DATA:
            self._fail(f"read from I/O port {port:#x}", unmodelled=True)
        return _NO_DEVICE

    def _on_port_out(self, port: int, _size: int, _: int) -> None:
        if port != _PCI_ADDRESS:
            self._fail(f"write to I/O port {port:#x}", unmodelled=True)

    def _on_apic_read(self, offset: int, size: int) -> int:
        if (taken := self._run.terms.taken) is not None:
            taken.read(APIC.start + offset, size)
        return self._memory.read_int(APIC.start + offset, size)

    def _on_apic_write(self, offset: int, size: int, value: int) -> None:
        self._memory.write_int(APIC.start + offset, value & ((1 << 8 * size) - 1), size)
        # A write of its low half sends; the target is in the high one (SDM volume 3, 12.6.1).
        if offset == INTERRUPT_COMMAND:
            self._command(value, self._registers.address)

    def _command(self, command: int, address: int) -> None:
        """The interrupt command register is written."""
        if is_for_others(command):
            self._send(commanded_vector(command), address)

    def _send(self, vector: int | None, address: int) -> None:
        self._run.cpu.commands.append(address)
        if vector is not None and self._run.terms.until_sent:
            self._run.stop(End(EndKind.SENT, self._registers.address, vector=vector))

    def _on_invalid(self) -> bool:
        return self._answer(self._registers.state())

    def _on_bad_access(self, access: int, address: int, _size: int, _: int) -> bool:
        if self._memory.has_shadow and _map_shadow(self._engine, access, address):
            return True
        if address < PAGE:
            calls, accesses = self.null_uses
            is_call = access == unicorn.UC_MEM_FETCH_UNMAPPED
            self.null_uses = NullUses(calls + is_call, accesses + (not is_call))
        self._fail(f"{_BAD.get(access, 'access to')} {address:#x}")
        return False

    def _on_exception(self, number: int) -> None:
        state = self._registers.state()
        if number != _GENERAL_PROTECTION:
            what = _EXCEPTIONS.get(number, f"exception {number}")
            # A breakpoint is a trap: RIP is behind it already.
            self._run.stop(self._code.failed(state.rip - (number == _BREAKPOINT), what))
            return
        self._answer(state)

    def _answer(self, state: CpuState) -> bool:
        """Do what the refused instruction asks, and go on behind it; False if that fails."""
        address = state.rip
        code = code_at(self._memory, address)
        instruction = decode_refused(code)
        if instruction is None or not self._perform(instruction, state):
            what = _UNMODELLED if instruction is None else f"unexpected {instruction.operation}"
            what += f" (bytes {code[:6].hex()})"
            unmodelled = is_unmodelled(code, instruction)
            self._run.stop(self._code.failed(address, what, unmodelled=unmodelled))
            return False
        if self._run.end is None:
            self._run.cpu.traps += 1
        # Unless it was put somewhere else: by a fix-up of the exception table.
        if state.rip == address:
            state.rip += instruction.length
        if instruction.operation is Operation.WBINVD and self.goes_elsewhere:
            self._run.go_on_elsewhere(state)
        self._registers.restore(state)
        return True

    @property
    def _is_behind_flush(self) -> bool:
        """Stores are noted because the CPU has executed WBINVD, and not because they are asked."""
        return self._notes is not None and bool(self._run.cpu.flushes)

    # -- what ends a run, or concerns the run and not the CPU -----------------------------

    def _perform(self, instruction: RefusedInstruction, state: CpuState) -> bool:
        """Change `state` as the instruction would; False if that is not modelled."""
        run = self._run
        match instruction.operation:
            case Operation.HLT if state.rip in self._sending:
                register = self._sending[state.rip]
                vector = None if register is None else state.general[register] & 0xFF
                self._send(vector, state.rip)
                return True
            case Operation.WRMSR if state.general[RCX] & MASK_32 == INTERRUPT_COMMAND_MSR:
                self._command(state.general[RAX], state.rip)
                return answer(run.cpu, instruction, state)
            case Operation.IRET if run.terms.in_interrupt:
                run.stop(End(EndKind.RETURNED, state.rip))
                return True
            case Operation.HLT | Operation.MWAIT:
                # Where a function returns to and where the next kernel begins lies a HLT too.
                gates = {
                    self._memory.direct(RETURN_GATE): EndKind.RETURNED,
                    ENTRY_GATE: EndKind.HANDED_OVER,
                }
                kind = gates.get(state.rip, EndKind.HALTED)
                enabled = bool(state.flags & _INTERRUPTS_ENABLED)
                run.stop(End(kind, state.rip, interruptible=enabled))
                return True
            case Operation.WBINVD:
                if run.terms.at_flush is not None:
                    run.terms.at_flush()
                run.cpu.flushes.append(state.rip)
                if self._notes is not None:
                    self._notes.clear()
                return True
            case Operation.UD1 | Operation.UD2:
                # A WARN goes on behind it; a BUG ends the kernel, and here the run. What a WARN
                # stores, from the exception's frame to the log, is not known behind a WBINVD.
                return state.rip in self._code.warnings() and not self._is_behind_flush
            case Operation.SEAMCALL if not run.cpu.seam:
                # The kernel is prepared for #UD (linux 7.3.4 arch/x86/virt/vmx/tdx/tdxcall.S:200).
                return self._go_on_after_fault(state)
            case _:
                return answer(run.cpu, instruction, state)

    def _go_on_after_fault(self, state: CpuState) -> bool:
        """Invalid opcode, as the kernel's exception table has it; False if it has nothing."""
        fixup = self._code.fixups().get(state.rip)
        if fixup is None:
            return False
        state.general[RAX], state.rip = _INVALID_OPCODE, fixup
        return True


def _map_shadow(engine: unicorn.Uc, access: int, address: int) -> bool:
    """Map a page of KASAN's shadow that code reads; False if it does something else."""
    if access != unicorn.UC_MEM_READ_UNMAPPED or address not in SHADOW:
        return False
    # It is zero and stays so, as ``kasan_early_shadow_page`` is (mm/kasan/init.c): of what the
    # machine does not have, the access itself fails, which comes next.
    engine.mem_map(address & -PAGE, PAGE, unicorn.UC_PROT_READ)
    return True

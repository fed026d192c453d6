# SPDX-License-Identifier: GPL-2.0-or-later
"""Run kernel functions on an emulated CPU until they return, halt, hand over, or fail.

The code runs in ring 3 with IOPL 3 and CR4.TSD. The emulator itself then refuses every
instruction that asks something of the machine, at whatever address and however it was
reached, and `staleline.kernel.traps` answers; nothing can run past an unseen RDMSR or
WBINVD, and no hook is needed on ordinary instructions. CPUID, which ring 3 may execute, is
answered by Unicorn's own CPUID hook, which lies inside the instruction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import unicorn
from unicorn import x86_const as x86

from staleline.kernel.machine_memory import PAGE, MachineMemory
from staleline.kernel.refused import (
    LONGEST_INSTRUCTION,
    Operation,
    RefusedInstruction,
    decode,
)

if TYPE_CHECKING:
    from staleline.kernel.traps import LogicalCpu

__all__ = ["Emulator", "End", "EndKind"]


class EndKind(StrEnum):
    """How a run ended."""

    RETURNED = "returned"
    HALTED = "halted"
    HANDED_OVER = "handed over"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class End:
    """Where and how a run ended; `detail` says what happened if it failed."""

    kind: EndKind
    address: int
    detail: str = ""


#: Physical addresses of the emulator's own pages, clear of what `boot` and `sites` use.
_GDT: Final = 0x1000
_GATES: Final = 0x2000
#: A function that returns, and one that jumps to the next kernel, meets a HLT; around them
#: is nothing but INT3, so that code running wild does not slide into one.
_RETURN_GATE: Final = _GATES + 0x400
_ENTRY_GATE: Final = _GATES + 0x800
_HLT: Final = b"\xf4"
_INT3: Final = b"\xcc"
_STACK_TOP: Final = 0x3_0000
_STACK_SIZE: Final = 0x1_0000

_CODE_SELECTOR: Final = 0x10  # __KERNEL_CS, in ring 3 here
_DATA_SELECTOR: Final = 0x18  # __KERNEL_DS
_FLAGS: Final = 0x3002  # IOPL 3, interrupts off
_CR4_TSD: Final = 1 << 2
_GP: Final = 13
_BREAKPOINT: Final = 3
_MSR_GS_BASE: Final = 0xC000_0101
_TLB_VIRTUAL: Final = 1
_MICROSECONDS: Final = 1_000_000
#: Unicorn wants an address to stop at; 0 will not do, wild code jumps there.
_NOWHERE: Final = (1 << 64) - 1

_GENERAL: Final = tuple(
    getattr(x86, f"UC_X86_REG_{name}")
    for name in (
        *("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI"),
        *(f"R{number}" for number in range(8, 16)),
    )
)
_RIP_SLOT: Final = len(_GENERAL)
_SAVED: Final = (
    *_GENERAL,
    x86.UC_X86_REG_RIP,
    x86.UC_X86_REG_EFLAGS,
    x86.UC_X86_REG_FS_BASE,
    x86.UC_X86_REG_GS_BASE,
)
_GS_SLOT: Final = len(_SAVED) - 1
_RAX, _RCX, _RDX = 0, 1, 2
_CPUID_OUTPUT: Final = (
    x86.UC_X86_REG_RAX,
    x86.UC_X86_REG_RBX,
    x86.UC_X86_REG_RCX,
    x86.UC_X86_REG_RDX,
)
_ANSWERED: Final = 1  # tells Unicorn not to execute the CPUID itself
_ARGUMENTS: Final = (7, 6, 2, 1)  # RDI, RSI, RDX, RCX

#: PCI configuration mechanism 1, with nothing on the bus: K8 and family 10h identification
#: look at their northbridge (arch/x86/kernel/cpu/amd.c early_init_amd(), 5.10 to 7.3).
_PCI_ADDRESS: Final = 0xCF8
_PCI_DATA: Final = range(0xCFC, 0xD00)
_NO_DEVICE: Final = 0xFFFF_FFFF

_UNMODELLED: Final = "fault or unmodelled instruction"
_EXCEPTIONS: Final = {
    0: "divide error",
    1: "debug trap",
    3: "int3",
    6: "invalid opcode",
    14: "page fault",
}


class Emulator:
    """One Unicorn engine over one `MachineMemory`; reusable for many machines.

    Args:
        memory: What the code addresses.
        name: Turns an address into text for the reasons, e.g. ``stop_this_cpu+0x4f``.
        warnings: Gives the addresses of undefined instructions that only warn; asked when
            one is met.
        budget: Instructions one run may take.
        seconds: Wall-clock limit of one run.
    """

    def __init__(
        self,
        memory: MachineMemory,
        name: Callable[[int], str],
        warnings: Callable[[], Container[int]],
        *,
        budget: int = 2_000_000,
        seconds: float = 5.0,
    ) -> None:
        self._memory = memory
        self._name = name
        self._warnings = warnings
        self._budget = budget
        self._seconds = seconds
        self._cpu: LogicalCpu | None = None
        self._at_flush: Callable[[], None] | None = None
        self._end: End | None = None
        self._engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        # The default TLB truncates addresses of the kernel half.
        self._engine.ctl_set_tlb_mode(_TLB_VIRTUAL)
        for address, region, offset in memory.windows():
            self._engine.mem_map_ptr(
                address, len(region) - offset, unicorn.UC_PROT_ALL, region.host_address + offset
            )
        self._install_hooks()
        self.prepare_ram()
        self._ring3 = self._enter_ring3()

    @property
    def next_kernel_entry(self) -> int:
        """Physical address that stands for the next kernel."""
        return _ENTRY_GATE

    def describe(self, address: int) -> str:
        """An address as text for reasons."""
        return self._name(address)

    def prepare_ram(self) -> None:
        """Write the emulator's own pages; needed again after `MachineMemory.reset`."""
        self._memory.write(_GDT, _descriptors())
        self._memory.write(_GATES, _INT3 * PAGE)
        self._memory.write(_RETURN_GATE, _HLT)
        self._memory.write(_ENTRY_GATE, _HLT)

    def forget_code(self, address: int, size: int) -> None:
        """Drop translations of code that was rewritten through another alias."""
        self._engine.ctl_remove_cache(address, address + size)

    def run(
        self,
        function: int,
        arguments: Sequence[int],
        *,
        cpu: LogicalCpu,
        at_flush: Callable[[], None] | None = None,
    ) -> End:
        """Call a function on a CPU.

        Args:
            function: Its address.
            arguments: At most four integers, in the System V order.
            cpu: The CPU that runs it.
            at_flush: Called at every WBINVD, before it takes effect.
        """
        self._cpu, self._at_flush, self._end = cpu, at_flush, None
        stack = self._memory.direct(_STACK_TOP + cpu.number * _STACK_SIZE)
        self._memory.write_int(stack - 8, self._memory.direct(_RETURN_GATE), 8)
        state = [0] * len(_SAVED)
        for slot, value in zip(_ARGUMENTS, arguments, strict=False):
            state[slot] = value
        state[_GENERAL.index(x86.UC_X86_REG_RSP)] = stack - 8
        state[_RIP_SLOT], state[_RIP_SLOT + 1], state[_GS_SLOT] = function, _FLAGS, cpu.gs_base
        self._restore(state)
        try:
            self._engine.emu_start(
                function, _NOWHERE, int(self._seconds * _MICROSECONDS), self._budget
            )
        except unicorn.UcError as error:
            return self._end or self._failed(self._address(), str(error))
        return self._end or self._failed(self._address(), "the time or instruction budget ran out")

    @property
    def _running(self) -> LogicalCpu:
        assert self._cpu is not None
        return self._cpu

    def _failed(self, address: int, detail: str) -> End:
        return End(EndKind.FAILED, address, f"{detail} at {self._name(address)}")

    def _address(self) -> int:
        return int(self._engine.reg_read(x86.UC_X86_REG_RIP))

    def _stop(self, end: End) -> None:
        if self._end is None:
            self._end = end
        self._engine.emu_stop()

    # -- entering ring 3 ---------------------------------------------------------------

    def _enter_ring3(self) -> unicorn.unicorn.UcContext:
        """Execute an IRETQ to ring 3 and keep that state: Unicorn offers no other way."""
        engine = self._engine
        engine.reg_write(x86.UC_X86_REG_GDTR, (0, self._memory.direct(_GDT), 0x2F, 0))
        engine.reg_write(x86.UC_X86_REG_CR4, engine.reg_read(x86.UC_X86_REG_CR4) | _CR4_TSD)
        frame = self._memory.direct(_STACK_TOP)
        code, target = self._memory.direct(_GATES), self._memory.direct(_RETURN_GATE)
        self._memory.write(code, b"\x48\xcf")
        selectors = (_CODE_SELECTOR | 3, _DATA_SELECTOR | 3)
        self._memory.write(
            frame, struct.pack("<5Q", target, selectors[0], _FLAGS, frame, selectors[1])
        )
        engine.reg_write(x86.UC_X86_REG_RSP, frame)
        engine.emu_start(code, target)
        return engine.context_save()

    def _restore(self, state: Sequence[int]) -> None:
        """Ring 3 with these registers.

        Unicorn delivers #GP without forgetting it, so the next one would be a double fault;
        the kept context has none pending.
        """
        self._engine.context_restore(self._ring3)
        self._engine.reg_write_batch(tuple(zip(_SAVED, state, strict=True)))

    # -- hooks -------------------------------------------------------------------------

    def _install_hooks(self) -> None:
        engine = self._engine
        engine.hook_add(unicorn.UC_HOOK_INTR, self._on_exception)
        engine.hook_add(unicorn.UC_HOOK_INSN, self._on_cpuid, None, 1, 0, x86.UC_X86_INS_CPUID)
        engine.hook_add(unicorn.UC_HOOK_INSN, self._on_port_in, None, 1, 0, x86.UC_X86_INS_IN)
        engine.hook_add(unicorn.UC_HOOK_INSN, self._on_port_out, None, 1, 0, x86.UC_X86_INS_OUT)
        engine.hook_add(unicorn.UC_HOOK_INSN_INVALID, self._on_invalid)
        engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_bad_access)

    def _on_cpuid(self, engine: unicorn.Uc, _: object) -> int:
        self._running.traps += 1
        leaf = engine.reg_read(x86.UC_X86_REG_RAX) & 0xFFFF_FFFF
        subleaf = engine.reg_read(x86.UC_X86_REG_RCX) & 0xFFFF_FFFF
        answer = self._running.execute_cpuid(leaf, subleaf)
        engine.reg_write_batch(tuple(zip(_CPUID_OUTPUT, answer, strict=True)))
        return _ANSWERED

    def _on_port_in(self, _: unicorn.Uc, port: int, _size: int, __: object) -> int:
        if port not in _PCI_DATA:
            self._stop(self._failed(self._address(), f"read from I/O port {port:#x}"))
        return _NO_DEVICE

    def _on_port_out(self, _: unicorn.Uc, port: int, _size: int, __: int, ___: object) -> None:
        if port != _PCI_ADDRESS:
            self._stop(self._failed(self._address(), f"write to I/O port {port:#x}"))

    def _on_invalid(self, engine: unicorn.Uc, _: object) -> bool:
        return self._answer(list(engine.reg_read_batch(_SAVED)))

    def _on_bad_access(
        self, _: unicorn.Uc, access: int, address: int, _size: int, __: int, ___: object
    ) -> bool:
        verb = {
            unicorn.UC_MEM_READ_UNMAPPED: "read of",
            unicorn.UC_MEM_WRITE_UNMAPPED: "write to",
            unicorn.UC_MEM_FETCH_UNMAPPED: "jump to",
        }.get(access, "access to")
        self._stop(self._failed(self._address(), f"{verb} unmapped address {address:#x}"))
        return False

    def _on_exception(self, engine: unicorn.Uc, number: int, _: object) -> None:
        state = list(engine.reg_read_batch(_SAVED))
        address = state[_RIP_SLOT]
        if number != _GP:
            what = _EXCEPTIONS.get(number, f"exception {number}")
            # A breakpoint is a trap: RIP is behind it already.
            self._stop(self._failed(address - (number == _BREAKPOINT), what))
            return
        self._answer(state)

    def _answer(self, state: list[int]) -> bool:
        """Do what the refused instruction asks, and go on behind it; False if that fails."""
        address = state[_RIP_SLOT]
        code = self._code(address)
        instruction = decode(code)
        if instruction is None or not self._perform(instruction, state):
            what = _UNMODELLED if instruction is None else f"unexpected {instruction.operation}"
            self._stop(self._failed(address, f"{what} (bytes {code[:6].hex()})"))
            return False
        if self._end is None:
            self._running.traps += 1
        state[_RIP_SLOT] = address + instruction.length
        self._restore(state)
        return True

    def _code(self, address: int) -> bytes:
        try:
            return bytes(self._engine.mem_read(address, LONGEST_INSTRUCTION))
        except unicorn.UcError:
            return bytes(self._engine.mem_read(address, PAGE - address % PAGE))

    # -- what privileged instructions do ------------------------------------------------

    def _perform(self, instruction: RefusedInstruction, state: list[int]) -> bool:
        """Change `state` as the instruction would; False if that is not modelled."""
        action = _ACTIONS.get(instruction.operation)
        return action is not None and action(self, instruction, state)

    def _halt(self, _: RefusedInstruction, state: list[int]) -> bool:
        address = state[_RIP_SLOT]
        gates = {
            self._memory.direct(_RETURN_GATE): EndKind.RETURNED,
            _ENTRY_GATE: EndKind.HANDED_OVER,
        }
        self._stop(End(gates.get(address, EndKind.HALTED), address))
        return True

    def _write_back(self, _: RefusedInstruction, state: list[int]) -> bool:
        if self._at_flush is not None:
            self._at_flush()
        self._running.flushes.append(state[_RIP_SLOT])
        return True

    def _read_msr(self, _: RefusedInstruction, state: list[int]) -> bool:
        number = state[_RCX] & 0xFFFF_FFFF
        value = state[_GS_SLOT] if number == _MSR_GS_BASE else self._running.read_msr(number)
        state[_RAX], state[_RDX] = value & 0xFFFF_FFFF, value >> 32
        return True

    def _write_msr(self, _: RefusedInstruction, state: list[int]) -> bool:
        number = state[_RCX] & 0xFFFF_FFFF
        value = (state[_RDX] & 0xFFFF_FFFF) << 32 | (state[_RAX] & 0xFFFF_FFFF)
        if number == _MSR_GS_BASE:
            state[_GS_SLOT] = value
        self._running.write_msr(number, value)
        return True

    def _read_time_stamp(self, instruction: RefusedInstruction, state: list[int]) -> bool:
        now = self._running.read_time_stamp()
        state[_RAX], state[_RDX] = now & 0xFFFF_FFFF, now >> 32
        if instruction.operation is Operation.RDTSCP:
            state[_RCX] = self._running.number
        return True

    def _read_control(self, instruction: RefusedInstruction, state: list[int]) -> bool:
        value = self._running.read_control(instruction.special)
        if value is None:
            return False
        state[instruction.general] = value
        return True

    def _write_control(self, instruction: RefusedInstruction, state: list[int]) -> bool:
        return self._running.write_control(instruction.special, state[instruction.general])

    def _read_debug(self, instruction: RefusedInstruction, state: list[int]) -> bool:
        state[instruction.general] = 0
        return True

    def _read_protection_keys(self, _: RefusedInstruction, state: list[int]) -> bool:
        state[_RAX] = state[_RDX] = 0
        return True

    def _warn(self, _: RefusedInstruction, state: list[int]) -> bool:
        return state[_RIP_SLOT] in self._warnings()

    def _skip(self, _: RefusedInstruction, __: list[int]) -> bool:
        """Nothing that is emulated depends on it."""
        return True


_Action = Callable[[Emulator, RefusedInstruction, list[int]], bool]
_ACTIONS: Final[dict[Operation, _Action]] = {
    Operation.HLT: Emulator._halt,
    Operation.WBINVD: Emulator._write_back,
    Operation.RDMSR: Emulator._read_msr,
    Operation.WRMSR: Emulator._write_msr,
    Operation.RDTSC: Emulator._read_time_stamp,
    Operation.RDTSCP: Emulator._read_time_stamp,
    Operation.MOV_FROM_CR: Emulator._read_control,
    Operation.MOV_TO_CR: Emulator._write_control,
    Operation.MOV_FROM_DR: Emulator._read_debug,
    Operation.MOV_TO_DR: Emulator._skip,
    Operation.UD1: Emulator._warn,
    Operation.UD2: Emulator._warn,
    Operation.RDPKRU: Emulator._read_protection_keys,
    Operation.WRPKRU: Emulator._skip,
    Operation.MOV_TO_SS: Emulator._skip,
    Operation.CLTS: Emulator._skip,
    Operation.INVLPG: Emulator._skip,
    Operation.LGDT: Emulator._skip,
    Operation.LIDT: Emulator._skip,
    Operation.LLDT: Emulator._skip,
    Operation.LTR: Emulator._skip,
    Operation.XSETBV: Emulator._skip,
}


def _descriptors() -> bytes:
    """A GDT of flat ring-3 segments under the kernel's selectors."""
    code, data = 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF
    return struct.pack("<6Q", 0, code, code, data, code, data)

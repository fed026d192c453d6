# SPDX-License-Identifier: GPL-2.0-or-later
"""Run kernel functions on an emulated CPU until they return, halt, hand over, or fail.

The code runs in ring 3 with IOPL 3 and CR4.TSD. The emulator itself then refuses every
instruction that asks something of the machine, at whatever address and however it was
reached, and `staleline.kernel.emulator.traps` answers; nothing can run past an unseen RDMSR or
WBINVD, and no hook is needed on ordinary instructions.

What a CPU stores after its WBINVD is noted by a second engine over the same memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Final

import unicorn
from unicorn import x86_const as x86

from staleline.hardware import GENERAL_REGISTERS, RAX, RCX, RDI, RDX, RSI, RSP
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.detours import called, detoured, met
from staleline.kernel.emulator.engine import (
    FLAGS,
    KERNEL_CODE,
    KERNEL_DATA,
    bad_access,
    enter_ring3,
    forget,
    map_memory,
    map_shadow,
    tell_number,
    write_pages,
)
from staleline.kernel.emulator.hooks import (
    EVERYWHERE,
    Hooks,
    accesses_told,
    blocks_told,
    instructions_told,
)
from staleline.kernel.emulator.knowncalls import KnownCalls, TakenMemory
from staleline.kernel.emulator.layout import (
    APIC,
    ENTRY_GATE,
    IDLE_PORT,
    PAGE,
    RETURN_GATE,
    stack_of,
)
from staleline.kernel.emulator.localapic import (
    INTERRUPT_COMMAND,
    INTERRUPT_COMMAND_MSR,
    commanded_vector,
    is_for_others,
)
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.emulator.notedstores import NotedAccess, NotedStores, flushes_a_line
from staleline.kernel.emulator.refused import (
    LONGEST_INSTRUCTION,
    Operation,
    RefusedInstruction,
    decode_refused,
)
from staleline.kernel.emulator.registerfile import RegisterFile
from staleline.kernel.emulator.touchedpages import page_faults
from staleline.kernel.emulator.traps import CpuState, LogicalCpu, answer, control_name
from staleline.kernel.emulator.watchdog import Circle, Watchdog

__all__ = ["ORDINARY_LIMITS", "Emulator", "End", "EndKind", "RunLimits"]


class EndKind(StrEnum):
    """How a run ended."""

    RETURNED = "returned"
    HALTED = "halted"
    HANDED_OVER = "handed over"
    SENT = "sent an interrupt"
    LOOKED = "looked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class End:
    """Where and how a run ended.

    Attributes:
        kind: How.
        address: Where.
        detail: What happened, if it failed.
        vector: Of the interrupt that it sent to other CPUs.
        stores: What the CPU stored after its last WBINVD, in order; None if it executed none
            in this run, or while it was watched.
        interruptible: It halted with interrupts enabled, so that one makes it go on.
        endless: It failed, because it came to no end within its limits.
    """

    kind: EndKind
    address: int
    detail: str = ""
    vector: int | None = None
    stores: tuple[NotedAccess, ...] | None = None
    interruptible: bool = False
    endless: bool = False

    @property
    def ends_elsewhere(self) -> bool:
        """It returned, halted, or goes on for ever, and did not just meet what is not known."""
        return self.endless or self.kind is not EndKind.FAILED


_GENERAL_PROTECTION: Final = 13
_INTERRUPTS_ENABLED: Final = 1 << 9  # EFLAGS.IF
#: CF, PF, AF, ZF, SF and OF.
_STATUS_FLAGS: Final = 0b1000_1101_0101
_BREAKPOINT: Final = 3
_INVALID_OPCODE: Final = 6
_TLB_VIRTUAL: Final = 1
#: Bytes of address space for translated code; a boot takes a few. Unicorn would reserve 1 GiB.
_TRANSLATIONS: Final = 128 << 20
#: Unicorn wants an address to stop at; 0 will not do, wild code jumps there.
_NOWHERE: Final = (1 << 64) - 1

#: Registers that make up a `CpuState`, in its order.
_SAVED: Final = (
    *(getattr(x86, f"UC_X86_REG_{name.upper()}") for name in GENERAL_REGISTERS),
    x86.UC_X86_REG_RIP,
    x86.UC_X86_REG_EFLAGS,
    x86.UC_X86_REG_FS_BASE,
    x86.UC_X86_REG_GS_BASE,
)
#: Those of SSE and x87 (MMX's are the same).
_VECTORS: Final = (
    *(getattr(x86, f"UC_X86_REG_XMM{number}") for number in range(16)),
    *(getattr(x86, f"UC_X86_REG_ST{number}") for number in range(8)),
)
#: Whatever else code may keep something in.
_EVERY_REGISTER: Final = {
    getattr(x86, f"UC_X86_REG_{name.upper()}"): name
    for name in (
        *GENERAL_REGISTERS,
        *("cs", "ds", "es", "fs", "gs", "ss", "fs_base", "gs_base"),
        *(f"xmm{number}" for number in range(16)),
        *(f"st{number}" for number in range(8)),
        *("mxcsr", "fpcw", "fpsw", "fptag"),
    )
}
_CPUID_INPUT: Final = (x86.UC_X86_REG_RAX, x86.UC_X86_REG_RCX)
_CPUID_OUTPUT: Final = (
    x86.UC_X86_REG_RAX,
    x86.UC_X86_REG_RBX,
    x86.UC_X86_REG_RCX,
    x86.UC_X86_REG_RDX,
)
_ANSWERED: Final = 1  # tells Unicorn not to execute the CPUID itself
_ARGUMENTS: Final = (RDI, RSI, RDX, RCX)

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


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What one run may take, once it has taken more time than runs do that end.

    Counting instructions makes them three times as slow, so none is counted before.
    """

    instructions: int = 2_000_000
    seconds: float = 5.0


ORDINARY_LIMITS: Final = RunLimits()
#: Seconds after which a run is looked at, most have ended by then; and for which it then goes on
#: without its instructions being counted.
_UNSEEN: Final = 0.005
_UNCOUNTED: Final = 0.05


class Emulator:
    """One Unicorn engine over one `MachineMemory`; reusable for many machines.

    Args:
        memory: What the code addresses.
        name: Turns an address into text for the reasons, e.g. ``stop_this_cpu+0x4f``.
        warnings: Gives the addresses of undefined instructions that only warn; asked when
            one is met.
        fixups: Gives address -> where the kernel goes on, for instructions that may raise
            #UD; asked when one does.
        limits: What one run may take.
    """

    def __init__(
        self,
        memory: MachineMemory,
        name: Callable[[int], str],
        warnings: Callable[[], Container[int]],
        fixups: Callable[[], Mapping[int, int]] = dict,
        limits: RunLimits = ORDINARY_LIMITS,
    ) -> None:
        self._memory = memory
        self._name = name
        self._warnings = warnings
        self._fixups = fixups
        self._limits = limits
        self._cpu: LogicalCpu | None = None
        self._at_flush: Callable[[], None] | None = None
        self._end: End | None = None
        self._sending = memory.sending_calls
        self._until_sent = self._in_interrupt = False
        self._paused: dict[int, CpuState] = {}
        self._engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        # Older than RDRAND and RDSEED, which ring 3 could execute otherwise.
        self._engine.ctl_set_cpu_model(x86.UC_CPU_X86_SANDYBRIDGE)
        self._engine.ctl_set_tcg_buffer_size(_TRANSLATIONS)
        # The default TLB truncates addresses of the kernel half.
        self._engine.ctl_set_tlb_mode(_TLB_VIRTUAL)
        map_memory(self._engine, memory)
        self._registers = RegisterFile(self._engine, _SAVED)
        self._cpuid_input = RegisterFile(self._engine, _CPUID_INPUT)
        self._cpuid_output = RegisterFile(self._engine, _CPUID_OUTPUT)
        self._notes: NotedStores | None = None
        self._watchdog = Watchdog(self._engine.emu_stop)
        self._exhausted = 0
        self._runs = 0
        self._told = 0
        self._stepping = False
        self._executing = 0
        self._flushes_line: dict[int, bool] = {}
        self._reads_told: set[range] = set()
        self._looks_left = 0
        self._taken: TakenMemory | None = None
        self._known_calls = KnownCalls[tuple[End, Sequence[NotedAccess]]](memory)
        self._detours = 0
        self._behind: CpuState | None = None
        self._second: Emulator | None = None
        self._hooks = Hooks(self._engine)
        self._install_hooks()
        self._enter_ring3 = enter_ring3(self._engine, memory)
        self._forget = partial(forget, self._engine)

    @property
    def next_kernel_entry(self) -> int:
        """Physical address that stands for the next kernel."""
        return ENTRY_GATE

    def describe(self, address: int) -> str:
        """An address as text for reasons."""
        return self._name(address)

    def prepare_ram(self) -> None:
        """Write the emulator's own pages; needed again after `MachineMemory.reset`."""
        write_pages(self._memory)

    def forget_code(self, address: int, size: int) -> None:
        """Drop translations of code that was rewritten through another alias."""
        self._forget(address, address + size)
        # An instruction that begins before the bytes may reach into them.
        first, end = address - LONGEST_INSTRUCTION, address + size
        for start in [start for start in self._flushes_line if first <= start < end]:
            del self._flushes_line[start]
        if self._second is not None:
            self._second.forget_code(address, size)

    def run(
        self,
        function: int,
        arguments: Sequence[int],
        *,
        cpu: LogicalCpu,
        at_flush: Callable[[], None] | None = None,
        until_sent: bool = False,
    ) -> End:
        """Call a function on a CPU.

        Args:
            function: Its address.
            arguments: At most four integers, in the System V order.
            cpu: The CPU that runs it.
            at_flush: Called at every WBINVD, before it takes effect.
            until_sent: End where it sends an interrupt to other CPUs; it can `go_on` from there.
        """
        self._until_sent, self._in_interrupt = until_sent, False
        return self._run_from(self._called(function, arguments, cpu), cpu, at_flush)

    def accesses_of(
        self, function: int, arguments: Sequence[int], *, cpu: LogicalCpu, reads: range
    ) -> tuple[End, Sequence[NotedAccess]]:
        """Call a function; all that it stores, and what it reads of some bytes, in order.

        Since its last WBINVD, if it executes any. Memory is left as it was: a call that would
        repeat an earlier one is not run.
        """
        begins = function, tuple(arguments), cpu.number, cpu.gs_base, reads
        known = None if self._detours else self._known_calls.find(begins)
        if known is not None:
            return known
        second, before, traps = self._after_flush(), self._memory.kept(), cpu.traps
        second._taken = taken = TakenMemory(self._memory)
        try:
            called = second._run_noted(function, arguments, cpu, reads)
        finally:
            second._taken = None
            self._memory.put_back(before)
        if called[0].kind is EndKind.RETURNED and cpu.traps == traps and not self._detours:
            self._known_calls.keep(begins, taken, called)
        return called

    def _run_noted(
        self, function: int, arguments: Sequence[int], cpu: LogicalCpu, reads: range
    ) -> tuple[End, Sequence[NotedAccess]]:
        """Call a function in the second engine."""
        notes = self._notes
        assert notes is not None
        self._look_at_reads(reads)
        notes.clear()
        end = self.run(function, arguments, cpu=cpu)
        return end, tuple(notes.accesses)

    def _look_at_reads(self, where: range) -> None:
        """From here on reads of these bytes are told; they are the same for one image."""
        if not self._reads_told:
            self._hooks.add(unicorn.UC_HOOK_MEM_READ, self._on_access)
            self._engine.ctl_flush_tb()
        self._reads_told.add(where)

    def _called(self, function: int, arguments: Sequence[int], cpu: LogicalCpu) -> CpuState:
        stack = self._memory.direct(stack_of(cpu.number).stop)
        # The return address, above which the stack is aligned to 16 (System V ABI, AMD64, 3.2.2).
        self._memory.write_int(stack - 8, self._memory.direct(RETURN_GATE), 8)
        if self._taken is not None:
            self._taken.write(stack - 8, 8)
        state = CpuState(rip=function, flags=FLAGS, gs_base=cpu.gs_base)
        for register, value in zip(_ARGUMENTS, arguments, strict=False):
            state.general[register] = value
        state.general[RSP] = stack - 8
        return state

    def interrupt(
        self, gate: int, *, cpu: LogicalCpu, at_flush: Callable[[], None] | None = None
    ) -> End:
        """Interrupt a CPU that runs in the kernel.

        Args:
            gate: Address of the code that the interrupt leads to.
            cpu: The CPU.
            at_flush: As for `run`.
        """
        returns_to = self._memory.direct(RETURN_GATE)
        stack = self._memory.direct(stack_of(cpu.number).stop)
        # RIP, CS, RFLAGS, RSP, SS: AMD APM volume 2, 8.9.3. Of ring 0, so that the kernel takes it
        # for an interrupt of its own code, and does not swap GS.
        frame = struct.pack("<5Q", returns_to, KERNEL_CODE, FLAGS, stack, KERNEL_DATA)
        self._memory.write(stack - len(frame), frame)
        state = CpuState(rip=gate, flags=FLAGS, gs_base=cpu.gs_base)
        state.general[RSP] = stack - len(frame)
        self._until_sent, self._in_interrupt = False, True
        return self._run_from(state, cpu, at_flush)

    def go_on(self, cpu: LogicalCpu) -> End:
        """Go on where the CPU sent an interrupt."""
        self._until_sent = self._in_interrupt = False
        return self._run_from(self._paused.pop(cpu.number), cpu, None)

    def look_on(self, cpu: LogicalCpu, where: Sequence[range], times: int) -> End:
        """Go on where the CPU sent an interrupt, to where it has read some bytes so many times.

        It may `go_on` from where it sent it all the same.
        """
        second, state = self._after_flush(), self._paused[cpu.number]
        for one in where:
            second._look_at_reads(one)
        assert second._notes is not None
        second._notes.clear()
        second._until_sent = second._in_interrupt = False
        second._looks_left = times
        try:
            return second._run_from(state, cpu, None)
        finally:
            second._looks_left = 0

    def _run_from(
        self, state: CpuState, cpu: LogicalCpu, at_flush: Callable[[], None] | None
    ) -> End:
        self._cpu, self._at_flush, self._end, self._behind = cpu, at_flush, None, None
        self._runs += 1
        tell_number(self._memory, cpu.number)
        self._restore(state)
        try:
            with self._watchdog:
                if self._stepping:
                    self._go_on_counting()
                else:
                    self._go_on(state.rip, _UNSEEN)
                    if self._goes_on:
                        self._go_on_long()
        except unicorn.UcError as error:
            self._hooks.raise_failure()
            return self._end or self._failed(self._address(), str(error))
        finally:
            self._watchdog.rest()
        end = self._end or self._unfinished(cpu, at_flush)
        if end.kind is EndKind.SENT and self._behind is None:
            self._paused[cpu.number] = self._state()
        return end

    def _unfinished(self, cpu: LogicalCpu, at_flush: Callable[[], None] | None) -> End:
        """It goes on behind a WBINVD, or its budget is over."""
        if self._behind is not None:
            return self._go_on_behind_flush(self._behind, cpu, at_flush)
        self._exhausted += 1
        end = self._failed(self._address(), "the time or instruction budget ran out")
        return replace(end, endless=True)

    def _go_on_behind_flush(
        self, state: CpuState, cpu: LogicalCpu, at_flush: Callable[[], None] | None
    ) -> End:
        second = self._after_flush()
        notes = second._notes
        assert notes is not None
        notes.clear()
        second._until_sent, second._in_interrupt = self._until_sent, self._in_interrupt
        end = second._run_from(state, cpu, at_flush)
        self._paused |= second._paused
        # With either it is not known which stores are dirty at the end.
        if notes.too_many or notes.flushed_lines:
            what = "more stores than are kept" if notes.too_many else "a flush of a single line"
            return self._failed(end.address, f"{what} after WBINVD, before the end")
        return replace(end, stores=tuple(notes.accesses))

    def _after_flush(self) -> Emulator:
        """The second engine; without one, code that does not flush costs nothing more."""
        # Hooks on memory make all code slow that is translated with them, so it has them alone.
        if self._second is None:
            self._second = Emulator(
                self._memory, self._name, self._warnings, self._fixups, self._limits
            )
            self._second._note_stores(self._watchdog)
        return self._second

    def _note_stores(self, watchdog: Watchdog) -> None:
        """Be the second engine of another."""
        self._notes, self._watchdog = NotedStores(), watchdog
        self._hooks.add(unicorn.UC_HOOK_CODE, self._on_instruction)
        self._hooks.add(unicorn.UC_HOOK_MEM_WRITE, self._on_access)

    def _go_on(self, address: int, seconds: float, instructions: int = 0) -> None:
        """Until the run ends, or its time or, if any are given, its instructions are over."""
        self._watchdog.limit(seconds, self._engine.emu_stop)
        faults = page_faults()
        try:
            self._engine.emu_start(address, _NOWHERE, 0, instructions)
        finally:
            self._memory.was_run_in(page_faults() - faults)
        self._hooks.raise_failure()

    @property
    def _goes_on(self) -> bool:
        """It has come to no end, nor to a WBINVD behind which it goes on elsewhere."""
        return self._end is None and self._behind is None

    def _go_on_long(self) -> None:
        """Until the run ends, or is known to have no end, or its limits are over."""
        address = self._address()
        circle = Circle(self._registers.read, self._all_but_registers, self._engine.emu_stop)
        with met(self._engine, self._hooks, address, circle.come_by):
            self._go_on(address, _UNCOUNTED)
        if self._goes_on and not (circle.is_closed or circle.walks):
            self._go_on(self._address(), _UNCOUNTED)
        if self._goes_on and not circle.is_closed:
            self._go_on_counting()

    def _all_but_registers(self) -> Hashable:
        """What decides what the CPU does next, and how often it flushed."""
        memory = (tuple(region.pages) for region in self._memory.kept().regions)
        vectors = tuple(map(self._engine.reg_read, _VECTORS))
        cpu = self._running
        return *memory, vectors, cpu.kept, len(cpu.flushes), self._looks_left

    def _go_on_counting(self) -> None:
        """Translated code counts or does not, so it is translated anew on both ways."""
        self._engine.ctl_flush_tb()
        try:
            self._go_on(self._address(), self._limits.seconds, self._limits.instructions)
        finally:
            self._engine.ctl_flush_tb()

    @property
    def exhausted_runs(self) -> int:
        """How many runs so far ended because their time or instruction budget ran out."""
        return self._exhausted + (0 if self._second is None else self._second.exhausted_runs)

    @property
    def runs(self) -> int:
        """How many runs were begun or gone on with, but for those behind a WBINVD."""
        return self._runs

    @property
    def asked(self) -> tuple[int, int]:
        """EAX and ECX: what CPUID asks for, or which MSR."""
        leaf, number = self._cpuid_input.read()
        return leaf & 0xFFFF_FFFF, number & 0xFFFF_FFFF

    def series(self) -> Watchdog:
        """Enter it around many runs: they are then watched by one thread."""
        return self._watchdog

    def watched(
        self, on_access: Callable[[int, int, bool], None], where: Sequence[range] = (EVERYWHERE,)
    ) -> AbstractContextManager[None]:
        """Tell every memory access of the code run inside: address, size, is it a write.

        Called before the access takes effect. It slows the code down, and translations are
        dropped on the way in and out, so watch only where accesses are needed.
        """
        return self._telling(accesses_told(self._engine, self._hooks, on_access, where))

    @contextmanager
    def stepped(self, on_instruction: Callable[[int, int], None]) -> Iterator[None]:
        """Tell every instruction of the code run inside, before it runs: address, size.

        Its accesses, if they are `watched` too, follow it.
        """
        # Counted from the start: where a run is stopped to go on counted, the instruction that was
        # told and had not run yet would be told again, and a trace would depend on the time.
        self._stepping = True
        try:
            with self._telling(instructions_told(self._engine, self._hooks, on_instruction)):
                yield
        finally:
            self._stepping = False

    def blocks(self, on_block: Callable[[int, int], None]) -> AbstractContextManager[None]:
        """Tell every run of instructions without a jump inside, before it runs: address, size."""
        return self._telling(blocks_told(self._engine, self._hooks, on_block))

    @contextmanager
    def detour(self, address: int, visits: int, target: int) -> Iterator[None]:
        """Code run inside goes on at `target` instead when it comes to an address once more.

        Args:
            address: Of an instruction.
            visits: How often it is executed before.
            target: Where to go on.
        """
        second = self._after_flush()
        engines = (self._engine, self._hooks), (second._engine, second._hooks)
        self._detours += 1
        try:
            with detoured(engines, address, visits, target):
                yield
        finally:
            self._detours -= 1

    @contextmanager
    def calls_of(self, functions: Iterable[int], at_call: Callable[[int], None]) -> Iterator[None]:
        """Told is where functions that code inside calls will return to, before they begin.

        What it is told to may look at `registers`, change general ones by `put`, and `leave`.
        """
        # Counted from the start: what comes by in the same state is to come by again.
        self._stepping = True
        try:
            with called(self._engine, self._hooks, functions, self._memory.read_int, at_call):
                yield
        finally:
            self._stepping = False

    def registers(self) -> dict[str, int]:
        """All that a CPU holds where code is, by name, but for status flags: a call keeps none."""
        values = {name: self._engine.reg_read(number) for number, name in _EVERY_REGISTER.items()}
        values["flags"] = self._engine.reg_read(x86.UC_X86_REG_EFLAGS) & ~_STATUS_FLAGS
        cpu = self._running
        written, control, counts = cpu.kept
        values |= {f"MSR {number:#x}": value for number, value in written}
        values |= {control_name(number): value for number, value in control}
        values |= {"the time stamp": counts[0][1], "RDRAND": counts[1][1]}
        return values | {"how often the CPU was asked for something": cpu.traps}

    def put(self, register: str, value: int) -> None:
        """Change a general register, where code is."""
        self._engine.reg_write(getattr(x86, f"UC_X86_REG_{register.upper()}"), value)

    def leave(self) -> None:
        """End the run where it is."""
        self._stop(End(EndKind.LOOKED, self._address()))

    @contextmanager
    def within(self, limits: RunLimits) -> Iterator[None]:
        """Runs inside may take that much."""
        before, self._limits = self._limits, limits
        try:
            yield
        finally:
            self._limits = before

    @contextmanager
    def _telling(self, told: AbstractContextManager[None]) -> Iterator[None]:
        """What is told is told of one engine, so runs stay in it; their stores are not noted."""
        self._told += 1
        try:
            with told:
                yield
        finally:
            self._told -= 1

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

    def _state(self) -> CpuState:
        values = self._registers.read()
        count = len(GENERAL_REGISTERS)
        return CpuState(values[:count], *values[count:])

    def _restore(self, state: CpuState) -> None:
        """Ring 3 with these registers.

        Unicorn delivers #GP without forgetting it, so the next one would be a double fault;
        the kept context has none pending.
        """
        self._enter_ring3()
        self._registers.write(
            (*state.general, state.rip, state.flags, state.fs_base, state.gs_base)
        )

    # -- hooks -------------------------------------------------------------------------

    def _install_hooks(self) -> None:
        self._hooks.add(unicorn.UC_HOOK_INTR, self._on_exception)
        self._hooks.add(unicorn.UC_HOOK_INSN_INVALID, self._on_invalid)
        self._hooks.add(unicorn.UC_HOOK_MEM_INVALID, self._on_bad_access)
        self._hooks.add_instruction(x86.UC_X86_INS_CPUID, self._on_cpuid)
        self._hooks.add_instruction(x86.UC_X86_INS_IN, self._on_port_in)
        self._hooks.add_instruction(x86.UC_X86_INS_OUT, self._on_port_out)
        self._hooks.add_device(APIC, self._on_apic_read, self._on_apic_write)

    def _on_cpuid(self) -> int:
        # Ring 3 may execute CPUID: this hook of Unicorn's lies inside the instruction.
        cpu = self._cpu
        assert cpu is not None
        cpu.traps += 1
        leaf, subleaf = self._cpuid_input.read()
        self._cpuid_output.write(cpu.execute_cpuid(leaf & 0xFFFF_FFFF, subleaf & 0xFFFF_FFFF))
        return _ANSWERED

    def _on_port_in(self, port: int, _size: int) -> int:
        if port == IDLE_PORT:
            self._stop(End(EndKind.HALTED, self._address()))
        elif port not in _PCI_DATA:
            self._stop(self._failed(self._address(), f"read from I/O port {port:#x}"))
        return _NO_DEVICE

    def _on_port_out(self, port: int, _size: int, _: int) -> None:
        if port != _PCI_ADDRESS:
            self._stop(self._failed(self._address(), f"write to I/O port {port:#x}"))

    def _on_apic_read(self, offset: int, size: int) -> int:
        if self._taken is not None:
            self._taken.read(APIC.start + offset, size)
        return self._memory.read_int(APIC.start + offset, size)

    def _on_apic_write(self, offset: int, size: int, value: int) -> None:
        self._memory.write_int(APIC.start + offset, value & ((1 << 8 * size) - 1), size)
        # A write of its low half sends; the target is in the high one (SDM volume 3, 12.6.1).
        if offset == INTERRUPT_COMMAND:
            self._command(value, self._address())

    def _command(self, command: int, address: int) -> None:
        """The interrupt command register is written."""
        if is_for_others(command):
            self._send(commanded_vector(command), address)

    def _send(self, vector: int | None, address: int) -> None:
        self._running.commands.append(address)
        if vector is not None and self._until_sent:
            self._stop(End(EndKind.SENT, self._address(), vector=vector))

    def _on_instruction(self, address: int, _size: int) -> None:
        self._executing = address
        if self._taken is not None:
            self._taken.read(address, LONGEST_INSTRUCTION)
        flushes = self._flushes_line.get(address)
        if flushes is None:
            flushes = self._flushes_line[address] = flushes_a_line(self._code(address))
        if flushes and self._notes is not None:
            self._notes.flush_line()

    def _on_access(self, kind: int, address: int, size: int, _: int) -> None:
        assert self._notes is not None
        is_write = kind == unicorn.UC_MEM_WRITE
        if self._taken is not None:
            (self._taken.write if is_write else self._taken.read)(address, size)
        if not is_write and not any(address in told for told in self._reads_told):
            return
        self._notes.note(self._executing, address, size, is_write=is_write)
        if self._looks_left and not is_write:
            self._looks_left -= 1
            if not self._looks_left:
                self._stop(End(EndKind.LOOKED, self._executing))

    def _on_invalid(self) -> bool:
        return self._answer(self._state())

    def _on_bad_access(self, access: int, address: int, _size: int, _: int) -> bool:
        if self._memory.has_shadow and map_shadow(self._engine, access, address):
            return True
        self._stop(self._failed(self._address(), bad_access(access, address)))
        return False

    def _on_exception(self, number: int) -> None:
        state = self._state()
        if number != _GENERAL_PROTECTION:
            what = _EXCEPTIONS.get(number, f"exception {number}")
            # A breakpoint is a trap: RIP is behind it already.
            self._stop(self._failed(state.rip - (number == _BREAKPOINT), what))
            return
        self._answer(state)

    def _answer(self, state: CpuState) -> bool:
        """Do what the refused instruction asks, and go on behind it; False if that fails."""
        address = state.rip
        code = self._code(address)
        instruction = decode_refused(code)
        if instruction is None or not self._perform(instruction, state):
            what = _UNMODELLED if instruction is None else f"unexpected {instruction.operation}"
            self._stop(self._failed(address, f"{what} (bytes {code[:6].hex()})"))
            return False
        if self._end is None:
            self._running.traps += 1
        # Unless it was put somewhere else: by a fix-up of the exception table.
        if state.rip == address:
            state.rip += instruction.length
        if instruction.operation is Operation.WBINVD and self._goes_elsewhere:
            self._behind = state
            self._engine.emu_stop()
        self._restore(state)
        return True

    @property
    def _is_behind_flush(self) -> bool:
        """Stores are noted because the CPU has executed WBINVD, and not because they are asked."""
        return self._notes is not None and bool(self._running.flushes)

    @property
    def _goes_elsewhere(self) -> bool:
        """Behind a WBINVD this run goes on in the second engine."""
        return self._notes is None and not self._told

    def _code(self, address: int) -> bytes:
        try:
            return self._memory.read(address, LONGEST_INSTRUCTION)
        except DerivationError:  # the last page
            return self._memory.read(address, PAGE - address % PAGE)

    # -- what ends a run, or concerns the run and not the CPU -----------------------------

    def _perform(self, instruction: RefusedInstruction, state: CpuState) -> bool:
        """Change `state` as the instruction would; False if that is not modelled."""
        match instruction.operation:
            case Operation.HLT if state.rip in self._sending:
                register = self._sending[state.rip]
                vector = None if register is None else state.general[register] & 0xFF
                self._send(vector, state.rip)
                return True
            case Operation.WRMSR if state.general[RCX] & 0xFFFF_FFFF == INTERRUPT_COMMAND_MSR:
                self._command(state.general[RAX], state.rip)
                return answer(self._running, instruction, state)
            case Operation.IRET if self._in_interrupt:
                self._stop(End(EndKind.RETURNED, state.rip))
                return True
            case Operation.HLT | Operation.MWAIT:
                # Where a function returns to and where the next kernel begins lies a HLT too.
                gates = {
                    self._memory.direct(RETURN_GATE): EndKind.RETURNED,
                    ENTRY_GATE: EndKind.HANDED_OVER,
                }
                kind = gates.get(state.rip, EndKind.HALTED)
                enabled = bool(state.flags & _INTERRUPTS_ENABLED)
                self._stop(End(kind, state.rip, interruptible=enabled))
                return True
            case Operation.WBINVD:
                if self._at_flush is not None:
                    self._at_flush()
                self._running.flushes.append(state.rip)
                if self._notes is not None:
                    self._notes.clear()
                return True
            case Operation.UD1 | Operation.UD2:
                # A WARN goes on behind it; a BUG ends the kernel, and here the run. What a WARN
                # stores, from the exception's frame to the log, is not known behind a WBINVD.
                return state.rip in self._warnings() and not self._is_behind_flush
            case Operation.SEAMCALL if not self._running.seam:
                # The kernel is prepared for #UD (linux 7.3.4 arch/x86/virt/vmx/tdx/tdxcall.S:200).
                return self._go_on_after_fault(state)
            case _:
                return answer(self._running, instruction, state)

    def _go_on_after_fault(self, state: CpuState) -> bool:
        """Invalid opcode, as the kernel's exception table has it; False if it has nothing."""
        fixup = self._fixups().get(state.rip)
        if fixup is None:
            return False
        state.general[RAX], state.rip = _INVALID_OPCODE, fixup
        return True

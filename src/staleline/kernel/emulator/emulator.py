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
from dataclasses import replace
from operator import add
from typing import TYPE_CHECKING, Final

from staleline.hardware import RCX, RDI, RDX, RSI, RSP
from staleline.kernel.emulator.detours import called, detoured
from staleline.kernel.emulator.engine import FLAGS, KERNEL_CODE, KERNEL_DATA, write_pages
from staleline.kernel.emulator.execution.end import (
    ORDINARY_LIMITS,
    End,
    EndKind,
    NullUses,
    RunLimits,
)
from staleline.kernel.emulator.execution.events import KnownCode
from staleline.kernel.emulator.execution.execution import Execution
from staleline.kernel.emulator.execution.run import RunTerms
from staleline.kernel.emulator.hooks import (
    EVERYWHERE,
    accesses_told,
    blocks_told,
    instructions_told,
)
from staleline.kernel.emulator.knowncalls import KnownCalls, TakenMemory
from staleline.kernel.emulator.layout import ENTRY_GATE, RETURN_GATE, stack_of
from staleline.kernel.emulator.traps import CpuState, LogicalCpu

if TYPE_CHECKING:
    from staleline.kernel.emulator.execution.noting import Noting
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.emulator.notedstores import NotedAccess
    from staleline.kernel.emulator.watchdog import Watchdog

__all__ = ["Emulator"]

_ARGUMENTS: Final = (RDI, RSI, RDX, RCX)


class Emulator:
    """CPUs that run code over one `MachineMemory`; reusable for many machines.

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
        self._code = KnownCode(name, warnings, fixups)
        self._limits = limits
        self._first = Execution(memory, self._code)
        self._second: tuple[Execution, Noting] | None = None
        self._paused: dict[int, CpuState] = {}
        self._runs = 0
        self._told = 0
        self._detours = 0
        self._known_calls: KnownCalls[tuple[End, Sequence[NotedAccess]]] = KnownCalls(memory)

    @property
    def next_kernel_entry(self) -> int:
        """Physical address that stands for the next kernel."""
        return ENTRY_GATE

    def describe(self, address: int) -> str:
        """An address as text for reasons."""
        return self._code.name(address)

    def told(self, end: End) -> str:
        """How a run ended, as text for reasons."""
        return end.detail or f"{end.kind} at {self._code.name(end.address)}"

    def prepare_ram(self) -> None:
        """Write the emulator's own pages; needed again after `MachineMemory.reset`."""
        write_pages(self._memory)

    def forget_code(self, address: int, size: int) -> None:
        """Drop translations of code that was rewritten through another alias."""
        self._first.forget_code(address, size)
        if self._second is not None:
            self._second[0].forget_code(address, size)

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
        terms = RunTerms(cpu, self._limits, at_flush, until_sent=until_sent)
        return self._run_from(self._called(function, arguments, cpu), terms)

    def accesses_of(
        self, function: int, arguments: Sequence[int], *, cpu: LogicalCpu, reads: range
    ) -> tuple[End, Sequence[NotedAccess]]:
        """Call a function; all that it stores, and what it reads of some bytes, in order.

        Since its last WBINVD, if it executes any. Memory is left as it was: a call that would
        repeat an earlier one is not run.
        """
        begins = function, tuple(arguments), cpu.gs_base

        def call(second: Execution, terms: RunTerms, taken: TakenMemory) -> End | CpuState:
            state = self._called(function, arguments, cpu)
            # The return address is what the caller wrote.
            taken.write(state.general[RSP], 8)
            return second.execute(state, terms)

        return self._noted(begins, cpu, (reads,), call)

    def _noted(
        self,
        begins: Hashable,
        cpu: LogicalCpu,
        reads: Sequence[range],
        call: Callable[[Execution, RunTerms, TakenMemory], End | CpuState],
        looks: int = 0,
    ) -> tuple[End, Sequence[NotedAccess]]:
        """What comes of a run in the second engine; one that would repeat an earlier one is none.

        Args:
            begins: What it begins with, beside memory.
            cpu: Who runs it.
            reads: Reads of these bytes are noted, as all stores are.
            call: Runs it.
            looks: Such a read at which it ends.
        """
        begins = begins, cpu.number, tuple(reads), looks
        known = None if self._detours else self._known_calls.find(begins)
        if known is not None:
            return known
        before, traps, taken = self._memory.kept(), cpu.traps, TakenMemory(self._memory)
        second, noting = self._noting()
        for one in reads:
            noting.look_at_reads(one)
        noting.notes.clear()
        noting.looks_left = looks
        try:
            end = _end(call(second, RunTerms(cpu, self._limits, taken=taken), taken))
        finally:
            noting.looks_left = 0
            self._memory.put_back(before)
        accesses = end, tuple(noting.notes.accesses)
        is_whole = end.kind in (EndKind.RETURNED, EndKind.LOOKED)
        # What a CPU answers is no function of memory, and a detour not of where the call begins.
        if is_whole and cpu.traps == traps and not self._detours:
            self._known_calls.keep(begins, taken, accesses)
        return accesses

    def _called(self, function: int, arguments: Sequence[int], cpu: LogicalCpu) -> CpuState:
        stack = self._memory.direct(stack_of(cpu.number).stop)
        # The return address, above which the stack is aligned to 16 (System V ABI, AMD64, 3.2.2).
        self._memory.write_int(stack - 8, self._memory.direct(RETURN_GATE), 8)
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
        terms = RunTerms(cpu, self._limits, at_flush, in_interrupt=True)
        return self._run_from(state, terms)

    def go_on(self, cpu: LogicalCpu) -> End:
        """Go on where the CPU sent an interrupt."""
        return self._run_from(self._paused.pop(cpu.number), RunTerms(cpu, self._limits))

    def look_on(self, cpu: LogicalCpu, where: Sequence[range], times: int) -> End:
        """Go on where the CPU sent an interrupt, to where it has read some bytes so many times.

        It may `go_on` from where it sent it all the same. Memory is left as it was.
        """
        state = self._paused[cpu.number]
        begins = tuple(state.general), state.rip, state.flags, state.fs_base, state.gs_base
        end, _ = self._noted(
            begins, cpu, where, lambda second, terms, _: second.execute(state, terms), times
        )
        return end

    def _run_from(self, state: CpuState, terms: RunTerms) -> End:
        self._runs += 1
        execution, outcome = self._first, self._first.execute(state, terms)
        if isinstance(outcome, CpuState):
            execution, noting = self._noting()
            noting.notes.clear()
            outcome = _with_stores(_end(execution.execute(outcome, terms)), noting, self._code)
        if outcome.kind is EndKind.SENT:
            self._paused[terms.cpu.number] = execution.registers.state()
        return outcome

    def _noting(self) -> tuple[Execution, Noting]:
        """The second engine; without one, code that does not flush costs nothing more."""
        # Hooks on memory make all code slow that is translated with them, so it has them alone.
        if self._second is None:
            second = Execution(self._memory, self._code)
            self._second = second, second.note_accesses(self._first.watchdog)
        return self._second

    @property
    def exhausted_runs(self) -> int:
        """How many runs so far ended because their time or instruction budget ran out."""
        return self._first.exhausted + (0 if self._second is None else self._second[0].exhausted)

    @property
    def null_uses(self) -> NullUses:
        """How many runs so far ended where a pointer leads that is not set."""
        first = self._first.events.null_uses
        second = NullUses() if self._second is None else self._second[0].events.null_uses
        return NullUses(*map(add, first, second))

    @property
    def runs(self) -> int:
        """How many runs were begun or gone on with, but for those behind a WBINVD."""
        return self._runs

    @property
    def asked(self) -> tuple[int, int]:
        """EAX and ECX: what CPUID asks for, or which MSR."""
        return self._first.registers.asked()

    def saved(self) -> Sequence[int]:
        """The general registers, by x86's numbers, RIP, the flags, and where FS and GS begin."""
        return self._first.registers.saved()

    def series(self) -> Watchdog:
        """Enter it around many runs: they are then watched by one thread."""
        return self._first.watchdog

    def watched(
        self, on_access: Callable[[int, int, bool], None], where: Sequence[range] = (EVERYWHERE,)
    ) -> AbstractContextManager[None]:
        """Tell every memory access of the code run inside: address, size, is it a write.

        Called before the access takes effect. It slows the code down, and translations are
        dropped on the way in and out, so watch only where accesses are needed.
        """
        first = self._first
        return self._telling(accesses_told(first.engine, first.hooks, on_access, where))

    @contextmanager
    def stepped(self, on_instruction: Callable[[int, int], None]) -> Iterator[None]:
        """Tell every instruction of the code run inside, before it runs: address, size.

        Its accesses, if they are `watched` too, follow it.
        """
        first = self._first
        # Counted from the start: where a run is stopped to go on counted, the instruction that was
        # told and had not run yet would be told again, and a trace would depend on the time.
        first.counts = True
        try:
            with self._telling(instructions_told(first.engine, first.hooks, on_instruction)):
                yield
        finally:
            first.counts = False

    def blocks(self, on_block: Callable[[int, int], None]) -> AbstractContextManager[None]:
        """Tell every run of instructions without a jump inside, before it runs: address, size."""
        return self._telling(blocks_told(self._first.engine, self._first.hooks, on_block))

    @contextmanager
    def detour(self, address: int, visits: int, target: int) -> Iterator[None]:
        """Code run inside goes on at `target` instead when it comes to an address once more.

        Args:
            address: Of an instruction.
            visits: How often it is executed before.
            target: Where to go on.
        """
        # It may come there before its WBINVD or behind it.
        engines = [(each.engine, each.hooks) for each in (self._first, self._noting()[0])]
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
        first, read = self._first, self._memory.read_int
        # Counted from the start: what comes by in the same state is to come by again.
        first.counts = True
        try:
            with called(first.engine, first.hooks, functions, read, at_call):
                yield
        finally:
            first.counts = False

    def registers(self) -> dict[str, int]:
        """All that a CPU holds where code is, by name, but for status flags: a call keeps none."""
        return self._first.registers.everything(self._first.run.cpu)

    def put(self, register: str, value: int) -> None:
        """Change a general register, where code is."""
        self._first.registers.put(register, value)

    def leave(self) -> None:
        """End the run where it is."""
        self._first.run.stop(End(EndKind.LOOKED, self._first.registers.address))

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
        self._first.events.goes_elsewhere = False
        try:
            with told:
                yield
        finally:
            self._told -= 1
            self._first.events.goes_elsewhere = not self._told


def _end(outcome: End | CpuState) -> End:
    """Of an engine that is the last one of a run."""
    assert isinstance(outcome, End)
    return outcome


def _with_stores(end: End, noting: Noting, code: KnownCode) -> End:
    """What a CPU stored behind its WBINVD, of which the rest of the run was noted."""
    notes = noting.notes
    # With either it is not known which stores are dirty at the end.
    if notes.too_many or notes.flushed_lines:
        what = "more stores than are kept" if notes.too_many else "a flush of a single line"
        return code.failed(end.address, f"{what} after WBINVD, before the end")
    return replace(end, stores=tuple(notes.accesses))

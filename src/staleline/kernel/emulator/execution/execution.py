# SPDX-License-Identifier: GPL-2.0-or-later
"""EngineRun code on one engine until it ends, or is known to have no end."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import unicorn
from unicorn import x86_const as x86

from staleline.kernel.emulator.detours import met
from staleline.kernel.emulator.engine import enter_ring3, forget, map_memory, tell_number
from staleline.kernel.emulator.execution.cpuregisters import CpuRegisters
from staleline.kernel.emulator.execution.end import End
from staleline.kernel.emulator.execution.events import Events, KnownCode, code_at
from staleline.kernel.emulator.execution.noting import Noting
from staleline.kernel.emulator.execution.run import EngineRun, RunTerms
from staleline.kernel.emulator.hooks import Hooks
from staleline.kernel.emulator.touchedpages import page_faults
from staleline.kernel.emulator.watchdog import Circle, Watchdog

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.emulator.traps import CpuState

__all__ = ["Execution"]

_TLB_VIRTUAL: Final = 1
#: Bytes of address space for translated code; a boot takes a few. Unicorn would reserve 1 GiB.
_TRANSLATIONS: Final = 128 << 20
#: Unicorn wants an address to stop at; 0 will not do, wild code jumps there.
_NOWHERE: Final = (1 << 64) - 1
#: Seconds after which a run is looked at, most have ended by then; and for which it then goes on
#: without its instructions being counted.
_UNSEEN: Final = 0.005
_UNCOUNTED: Final = 0.05


class Execution:
    """One Unicorn engine over a machine's memory.

    Attributes:
        engine: The engine.
        hooks: Its hooks.
        run: What it runs.
        registers: Of its CPU.
        events: What its code asks.
        noting: What its code accesses, if that is noted.
        watchdog: What ends runs that take too long.
        counts: Instructions are counted from the start.
        exhausted: How many runs took all that they may.

    Args:
        memory: What the code addresses.
        code: What is known of it.
    """

    def __init__(self, memory: MachineMemory, code: KnownCode) -> None:
        self._memory, self._code = memory, code
        self.engine = engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        # Older than RDRAND and RDSEED, which ring 3 could execute otherwise.
        engine.ctl_set_cpu_model(x86.UC_CPU_X86_SANDYBRIDGE)
        engine.ctl_set_tcg_buffer_size(_TRANSLATIONS)
        # The default TLB truncates addresses of the kernel half.
        engine.ctl_set_tlb_mode(_TLB_VIRTUAL)
        map_memory(engine, memory)
        self.run = EngineRun(engine.emu_stop)
        self.hooks = Hooks(engine)
        self.registers = CpuRegisters(engine, enter_ring3(engine, memory))
        self.events = Events(engine, self.run, self.registers, memory, code)
        self.events.install(self.hooks)
        self.noting: Noting | None = None
        self.watchdog = Watchdog(engine.emu_stop)
        self.counts = self._counting = False
        self.exhausted = 0

    def note_accesses(self, watchdog: Watchdog) -> Noting:
        """Let what code accesses be noted from here on, under the watchdog of another."""
        self.watchdog = watchdog
        self.noting = Noting(self.engine, self.hooks, self.run, partial(code_at, self._memory))
        self.events.note_in(self.noting.notes)
        return self.noting

    def forget_code(self, address: int, size: int) -> None:
        """Drop translations of code that was rewritten through another alias."""
        forget(self.engine, address, address + size)
        if self.noting is not None:
            self.noting.forget_code(address, size)

    def execute(self, state: CpuState, terms: RunTerms) -> End | CpuState:
        """EngineRun code from here.

        Returns:
            How it ended, or the registers behind a WBINVD from which it goes on elsewhere.
        """
        self.run.begin(terms)
        tell_number(self._memory, terms.cpu.number)
        self.registers.restore(state)
        try:
            with self.watchdog:
                if self.counts:
                    self._go_on_counting()
                else:
                    self._go_on(state.rip, _UNSEEN)
                    if self.run.goes_on:
                        self._go_on_long()
        except unicorn.UcError as error:
            self.hooks.raise_failure()
            return self.run.end or self._failed(str(error))
        finally:
            self.watchdog.rest()
        return self.run.end or self.run.behind or self._out_of_limits()

    def _out_of_limits(self) -> End:
        self.exhausted += 1
        return replace(self._failed("the time or instruction budget ran out"), endless=True)

    def _failed(self, detail: str) -> End:
        return self._code.failed(self.registers.address, detail)

    def _go_on(self, address: int, seconds: float, instructions: int = 0) -> None:
        """Until the run ends, or its time or, if any are given, its instructions are over."""
        # Translated code counts or does not, so it is translated anew where that changes.
        if self._counting is not bool(instructions):
            self._counting = bool(instructions)
            self.engine.ctl_flush_tb()
        self.watchdog.limit(seconds, self.engine.emu_stop)
        faults = page_faults()
        try:
            self.engine.emu_start(address, _NOWHERE, 0, instructions)
        finally:
            self._memory.was_run_in(page_faults() - faults)
        self.hooks.raise_failure()

    def _go_on_long(self) -> None:
        """Until the run ends, or is known to have no end, or its limits are over."""
        address = self.registers.address
        circle = Circle(self.registers.saved, self._all_but_registers, self.engine.emu_stop)
        with met(self.engine, self.hooks, address, circle.come_by):
            self._go_on(address, _UNCOUNTED)
        if self.run.goes_on and not (circle.is_closed or circle.walks):
            self._go_on(self.registers.address, _UNCOUNTED)
        if self.run.goes_on and not circle.is_closed:
            self._go_on_counting()

    def _all_but_registers(self) -> Hashable:
        """What decides what the CPU does next, and how often it flushed."""
        memory = (tuple(region.pages) for region in self._memory.kept().regions)
        looks_left = 0 if self.noting is None else self.noting.looks_left
        cpu = self.run.cpu
        return *memory, self.registers.vectors(), cpu.kept, len(cpu.flushes), looks_left

    def _go_on_counting(self) -> None:
        # Counting makes instructions three times as slow, so none is counted before.
        limits = self.run.terms.limits
        self._go_on(self.registers.address, limits.seconds, limits.instructions)

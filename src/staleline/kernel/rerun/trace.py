# SPDX-License-Identifier: GPL-2.0-or-later
"""Every instruction that a site executes, with what it reads and writes.

A trace is evidence: nothing in it is guessed from code that did not run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from staleline.kernel.emulator.refused import LONGEST_INSTRUCTION
from staleline.kernel.rerun.conditions import JUMPS_NEAR, JUMPS_SHORT
from staleline.kernel.rerun.instructionform import form_of

if TYPE_CHECKING:
    from staleline.kernel.emulator.emulator import Emulator
    from staleline.kernel.emulator.memory import MachineMemory

__all__ = ["Access", "ExecutedInstruction", "Recorder", "conditional_outcomes"]

#: Where EAX and ECX say what is asked; by name, since a prefix may stand before the opcode: kernels
#: since 6.15 have ``ds wrmsr`` (asm/msr.h).
_ASKING: Final = ("CPUID", "RDMSR", "WRMSR")


class Access(NamedTuple):
    """Bytes that an instruction read or is about to write.

    Attributes:
        address: As the code addressed it.
        size: In bytes.
        value: What was read; None for a write.
    """

    address: int
    size: int
    value: int | None


@dataclass(slots=True)
class ExecutedInstruction:
    """One executed instruction.

    Attributes:
        address: Where it was executed.
        code: Its bytes.
        accesses: In order.
        begins: It is the first of a run.
        asked: EAX and ECX, which say what CPUID and RDMSR ask, and no other instruction.
        registers: What they held before it, as `Emulator.saved` has them.
    """

    address: int
    code: bytes
    accesses: list[Access] = field(default_factory=list)
    begins: bool = False
    asked: tuple[int, int] = (0, 0)
    registers: Sequence[int] = ()

    @property
    def conditional(self) -> bool:
        """Is it a conditional jump?"""
        return self.conditional_near or self.code[0] in JUMPS_SHORT

    @property
    def conditional_near(self) -> bool:
        """With a displacement of four bytes?"""
        return len(self.code) > 1 and self.code[0] == 0x0F and self.code[1] in JUMPS_NEAR


class Recorder:
    """Makes steps of what an emulator tells while it is `stepped` and `watched`."""

    def __init__(self, memory: MachineMemory, emulator: Emulator) -> None:
        self._memory, self._emulator = memory, emulator
        self._run = 0
        self.steps: list[ExecutedInstruction] = []

    def note_instruction(self, address: int, size: int) -> None:
        """One instruction, before it runs."""
        run = self._emulator.runs
        step = ExecutedInstruction(address, self._code(address, size), begins=run != self._run)
        self._run = run
        form = form_of(step.code)
        if form is not None and form.asks in _ASKING:
            step.asked = self._emulator.asked
        step.registers = self._emulator.saved()
        self.steps.append(step)

    def _code(self, address: int, size: int) -> bytes:
        """Of an instruction that the engine refuses the size means nothing, or is too small."""
        if size <= LONGEST_INSTRUCTION:
            code = self._memory.read(address, size)
            if form_of(code) is not None:
                return code
        return self._memory.read(address, LONGEST_INSTRUCTION)

    def note_access(self, address: int, size: int, is_write: bool) -> None:
        """One access of the last instruction, before it takes effect."""
        if self.steps:
            value = None if is_write else self._memory.read_int(address, size)
            self.steps[-1].accesses.append(Access(address, size, value))

    def record(self, run: Callable[[], object]) -> None:
        """Add what `run` lets the emulator execute."""
        emulator = self._emulator
        with emulator.stepped(self.note_instruction), emulator.watched(self.note_access):
            run()


def conditional_outcomes(steps: Sequence[ExecutedInstruction]) -> dict[int, frozenset[int]]:
    """Address of each conditional jump -> where it went."""
    went: dict[int, set[int]] = {}
    for step, following in pairwise(steps):
        if step.conditional:
            went.setdefault(step.address, set()).add(following.address)
    return {address: frozenset(targets) for address, targets in went.items()}

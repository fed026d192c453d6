# SPDX-License-Identifier: GPL-2.0-or-later
"""Every instruction that a site executes, with what it reads and writes.

A trace is evidence: nothing in it is guessed from code that did not run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from staleline.kernel.refused import LONGEST_INSTRUCTION

if TYPE_CHECKING:
    from staleline.kernel.emulator import Emulator
    from staleline.kernel.machine_memory import MachineMemory

__all__ = ["Access", "Step", "conditional_outcomes", "record"]

_JUMP_SHORT: Final = range(0x70, 0x80)
_JUMP_NEAR: Final = range(0x80, 0x90)


@dataclass(frozen=True, slots=True)
class Access:
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
class Step:
    """One executed instruction.

    Attributes:
        address: Where it was executed.
        code: Its bytes.
        accesses: In order.
    """

    address: int
    code: bytes
    accesses: list[Access] = field(default_factory=list)

    @property
    def conditional(self) -> bool:
        """Is it a conditional jump?"""
        if self.code[0] == 0x0F and len(self.code) > 1:
            return self.code[1] in _JUMP_NEAR
        return self.code[0] in _JUMP_SHORT


def record(memory: MachineMemory, emulator: Emulator, run: Callable[[], object]) -> list[Step]:
    """What `run` lets the emulator execute."""
    steps: list[Step] = []

    def on_instruction(address: int, size: int) -> None:
        # An instruction that the engine refuses has no size that means anything.
        length = size if size <= LONGEST_INSTRUCTION else LONGEST_INSTRUCTION
        steps.append(Step(address, memory.read(address, length)))

    def on_access(address: int, size: int, is_write: bool) -> None:
        if steps:
            value = None if is_write else memory.read_int(address, size)
            steps[-1].accesses.append(Access(address, size, value))

    with emulator.stepped(on_instruction), emulator.watched(on_access):
        run()
    return steps


def conditional_outcomes(steps: Sequence[Step]) -> dict[int, frozenset[int]]:
    """Address of each conditional jump -> where it went."""
    found: dict[int, set[int]] = {}
    for step, following in pairwise(steps):
        if step.conditional:
            found.setdefault(step.address, set()).add(following.address)
    return {address: frozenset(targets) for address, targets in found.items()}

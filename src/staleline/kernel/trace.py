# SPDX-License-Identifier: GPL-2.0-or-later
"""Every instruction that a site executes, with what it reads and writes; and what follows what.

A trace is evidence: nothing in it is guessed from code that did not run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import capstone
from capstone import x86 as cx

from staleline.kernel.refused import LONGEST_INSTRUCTION

if TYPE_CHECKING:
    from staleline.kernel.emulator import Emulator
    from staleline.kernel.machine_memory import MachineMemory

__all__ = ["Access", "Step", "conditional_outcomes", "record", "what_led_to"]

_FLAGS: Final = "eflags"
_CPUID_OUTPUT: Final = frozenset({"rax", "rbx", "rcx", "rdx"})
_CPUID_INPUT: Final = frozenset({"rax", "rcx"})
#: Registers that say where something is, not what: of no interest to what follows what.
_PLACES: Final = frozenset({"rsp", "rip", "gs", "fs", "ds", "es", "ss", "cs"})
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
    for step, following in zip(steps, steps[1:], strict=False):
        if step.conditional:
            found.setdefault(step.address, set()).add(following.address)
    return {address: frozenset(targets) for address, targets in found.items()}


def what_led_to(steps: Sequence[Step], wanted: Collection[int]) -> frozenset[int]:
    """The steps whose results the wanted ones depend on, through registers, flags and memory.

    Args:
        steps: A trace.
        wanted: Indices of steps.

    Returns:
        Indices, the wanted ones included.
    """
    sources = _sources(steps)
    found: set[int] = set()
    left = list(wanted)
    while left:
        index = left.pop()
        if index not in found:
            found.add(index)
            left.extend(sources[index])
    return frozenset(found)


def _sources(steps: Sequence[Step]) -> list[set[int]]:
    """Per step, the steps that last wrote what it reads."""
    writers: dict[str | int, int] = {}
    sources = []
    decoder = _Decoder()
    for index, step in enumerate(steps):
        read, written = decoder.registers(step)
        touched = [*read, *_bytes(step, reads=True)]
        sources.append({writers[place] for place in touched if place in writers})
        for place in (*written, *_bytes(step, reads=False)):
            writers[place] = index
    return sources


def _bytes(step: Step, *, reads: bool) -> Iterator[int]:
    for access in step.accesses:
        if (access.value is not None) is reads:
            yield from range(access.address, access.address + access.size)


class _Decoder:
    """Which registers an instruction reads and writes, by their 64-bit names."""

    def __init__(self) -> None:
        self._engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._engine.detail = True
        self._known: dict[bytes, tuple[frozenset[str], frozenset[str]]] = {}

    def registers(self, step: Step) -> tuple[frozenset[str], frozenset[str]]:
        """Read and written ones."""
        if step.code not in self._known:
            self._known[step.code] = self._look_up(step)
        return self._known[step.code]

    def _look_up(self, step: Step) -> tuple[frozenset[str], frozenset[str]]:
        instruction = next(self._engine.disasm(step.code, step.address, 1), None)
        if instruction is None:
            return frozenset(), frozenset()
        if instruction.id == cx.X86_INS_CPUID:
            return _CPUID_INPUT, _CPUID_OUTPUT
        read, written = instruction.regs_access()
        into = {_whole(instruction.reg_name(number)) for number in written} - _PLACES
        if _clears(instruction):
            return frozenset(), frozenset(into)
        outof = {_whole(instruction.reg_name(number)) for number in read}
        kept = {_whole(name) for n in written if _is_part(name := instruction.reg_name(n))}
        return frozenset((outof | kept) - _PLACES - _pointers(instruction)), frozenset(into)


def _clears(instruction: capstone.CsInsn) -> bool:
    """XOR or SUB of a register with itself."""
    if instruction.id not in (cx.X86_INS_XOR, cx.X86_INS_SUB):
        return False
    first, second = instruction.operands
    return bool(first.type == second.type == cx.X86_OP_REG and first.reg == second.reg)


def _pointers(instruction: capstone.CsInsn) -> set[str]:
    """Registers that are used for an address only."""
    places, values = set(), set()
    for operand in instruction.operands:
        if operand.type == cx.X86_OP_MEM:
            used = (operand.mem.base, operand.mem.index)
            places |= {_whole(instruction.reg_name(number)) for number in used if number}
        elif operand.type == cx.X86_OP_REG and operand.access & capstone.CS_AC_READ:
            values.add(_whole(instruction.reg_name(operand.reg)))
    return set() if instruction.id == cx.X86_INS_LEA else places - values


def _whole(name: str) -> str:
    """The 64-bit register that a name is a part of: ``al`` and ``eax`` are ``rax``."""
    return _WHOLE.get(name, name)


def _is_part(name: str) -> bool:
    """Does writing this register leave the rest of the whole one as it was?"""
    return name in _WHOLE and name != _WHOLE[name] and not _is_lower_half(name)


def _is_lower_half(name: str) -> bool:
    """Writing the lower 32 bits clears the upper ones."""
    return name[0] == "e" or name.endswith("d")


def _named_parts() -> Iterator[tuple[str, str]]:
    for letter in "abcd":
        for part in (f"{letter}l", f"{letter}h", f"{letter}x", f"e{letter}x"):
            yield part, f"r{letter}x"
    for legacy in ("si", "di", "bp", "sp"):
        for part in (f"{legacy}l", legacy, f"e{legacy}"):
            yield part, f"r{legacy}"
    for number in range(8, 16):
        for suffix in "bwd":
            yield f"r{number}{suffix}", f"r{number}"


_WHOLE: Final = {**dict(_named_parts()), "rflags": _FLAGS, "flags": _FLAGS}

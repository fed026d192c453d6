# SPDX-License-Identifier: GPL-2.0-or-later
"""Which executed instructions led to which, through registers, flags and memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]
from capstone import x86 as cx

from staleline.hardware import GENERAL_REGISTERS, MASK_64
from staleline.kernel.rerun.instructionform import accessed
from staleline.kernel.rerun.registerparts import CARRY, FLAGS, parts_of

if TYPE_CHECKING:
    from staleline.kernel.rerun.trace import ExecutedInstruction

__all__ = ["disassembled", "what_led_to"]

_CPUID_INPUT: Final = frozenset({"rax", "rcx"})
_CPUID_OUTPUT: Final = frozenset({"rax", "rbx", "rcx", "rdx"})
#: Registers that say where something is, not what it is.
_PLACES: Final = frozenset({"rsp", "rip", "gs", "fs", "ds", "es", "ss", "cs"})
#: What an instruction of unknown form may read and write.
_EVERYTHING: Final = frozenset((*GENERAL_REGISTERS, FLAGS.register, CARRY.register)) - _PLACES


def disassembled(
    step: ExecutedInstruction, name: Callable[[int], str], *, att: bool = False
) -> str:
    """One instruction in Intel's syntax, or in AT&T's; `name` says where a jump or call goes."""
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    if att:
        decoder.syntax = capstone.CS_OPT_SYNTAX_ATT
    decoder.detail = True
    read = next(decoder.disasm(step.code, step.address, 1), None)
    if read is None:
        return f"(bytes {step.code.hex()})"
    goes = read.group(capstone.CS_GRP_JUMP) or read.group(capstone.CS_GRP_CALL)
    if goes and read.operands[0].type == cx.X86_OP_IMM:
        return f"{read.mnemonic} {name(read.operands[0].imm & MASK_64)}"
    return f"{read.mnemonic} {read.op_str}".rstrip()


def what_led_to(steps: Sequence[ExecutedInstruction], wanted: Collection[int]) -> frozenset[int]:
    """The steps whose results the wanted ones depend on, through registers, flags and memory.

    Args:
        steps: A trace.
        wanted: Indices of steps.

    Returns:
        Indices, the wanted ones included.
    """
    sources = _sources(steps)
    led: set[int] = set()
    left = list(wanted)
    while left:
        index = left.pop()
        if index not in led:
            led.add(index)
            left.extend(sources[index])
    return frozenset(led)


def _sources(steps: Sequence[ExecutedInstruction]) -> list[set[int]]:
    """Per step, the steps that last wrote what it reads."""
    writers: dict[str | int, int] = {}
    sources = []
    decoder = _Decoder()
    for index, step in enumerate(steps):
        read, written = decoder.registers(step)
        touched = _places(read, _bytes(step, reads=True))
        sources.append({writers[place] for place in touched if place in writers})
        writers.update(dict.fromkeys(_places(written, _bytes(step, reads=False)), index))
    return sources


def _places(registers: Iterable[str], addresses: Iterable[int]) -> Iterator[str | int]:
    yield from registers
    yield from addresses


def _bytes(step: ExecutedInstruction, *, reads: bool) -> Iterator[int]:
    for access in step.accesses:
        if (access.value is not None) is reads:
            yield from range(access.address, access.address + access.size)


class _Decoder:
    """Which registers an instruction reads and writes, by their 64-bit names."""

    def __init__(self) -> None:
        self._engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._engine.detail = True
        self._known: dict[bytes, tuple[frozenset[str], frozenset[str]]] = {}

    def registers(self, step: ExecutedInstruction) -> tuple[frozenset[str], frozenset[str]]:
        """Read and written ones."""
        if step.code not in self._known:
            self._known[step.code] = self._look_up(step)
        return self._known[step.code]

    def _look_up(self, step: ExecutedInstruction) -> tuple[frozenset[str], frozenset[str]]:
        instruction = next(self._engine.disasm(step.code, step.address, 1), None)
        if instruction is None:
            return _EVERYTHING, _EVERYTHING  # nobody knows
        if instruction.id == cx.X86_INS_CPUID:
            return _CPUID_INPUT, _CPUID_OUTPUT
        read, written = accessed(instruction)
        # What stands in a register that is an address has no part in what was loaded from there.
        into = set(map(_whole, written)) - _PLACES
        if _clears(instruction):
            return frozenset(), frozenset(into)
        outof = set(map(_whole, read))
        # Writing 8 or 16 bits leaves the rest, so that the whole depends on what it was.
        kept = set(map(_whole, filter(_is_part, written)))
        return frozenset((outof | kept) - _PLACES - _pointers(instruction)), frozenset(into)


def _clears(instruction: capstone.CsInsn) -> bool:
    """XOR or SUB of a register with itself: what was in it has no part in the result."""
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
    # LEA computes with what is in them, so they are no mere places.
    return set() if instruction.id == cx.X86_INS_LEA else places - values


def _whole(name: str) -> str:
    """The 64-bit register that a name is a part of: ``al`` and ``eax`` are ``rax``."""
    return parts_of(name)[0].register


def _is_part(name: str) -> bool:
    """Does writing this register leave the rest of the whole one as it was?"""
    # A write of 32 bits clears the upper half (AMD APM volume 1, 3.1.2).
    return sum(part.width for part in parts_of(name)) < 32

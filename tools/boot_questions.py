# SPDX-License-Identifier: GPL-2.0-or-later
"""Which instructions of a kernel can ask for a leaf of CPUID or for a model-specific register.

An emulated machine has to be stopped at each of them that is to be answered in QEMU's place. Most
ask for a constant just loaded, so there is no need to stop there to know that it is another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]
import numpy as np

from staleline.kernel.image.image import KernelImage
from staleline.kernel.inventory.codescan import CodeArea, code_areas, instruction_starts, verify

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CPUID", "RDMSR", "Question", "questions"]

CPUID: Final = b"\x0f\xa2"
RDMSR: Final = b"\x0f\x32"
# Who reads the MSRs that machines.toml answers.
_MSR_READERS: Final = frozenset({"early_detect_mem_encrypt", "early_init_amd", "tdx_init"})
_ALL: Final = 0xFFFF_FFFF
_LOW_HALF: Final = 0xFFFF
_CONDITIONAL: Final = 0x0F  # first byte of a conditional near jump; the second is 8x
_NEAR: Final = frozenset({0xE8, 0xE9})  # call and jump
_SHORT: Final = frozenset({0xEB, *range(0x70, 0x80), *range(0xE0, 0xE4)})
_REACH: Final = 0x80  # of a short jump backwards


@dataclass(frozen=True, slots=True)
class _Input:
    """The register that says what is asked for, its low half, and all its names."""

    whole: str
    low_half: str
    names: frozenset[str]


_INPUTS: Final = {
    CPUID: _Input("eax", "ax", frozenset({"rax", "eax", "ax", "al", "ah"})),
    RDMSR: _Input("ecx", "cx", frozenset({"rcx", "ecx", "cx", "cl", "ch"})),
}


@dataclass(frozen=True, slots=True)
class Question:
    """An instruction that asks.

    Attributes:
        opcode: CPUID or RDMSR.
        number: What it asks for, as far as that is constant.
        constant: Mask of the bits of `number` that are.
    """

    opcode: bytes
    number: int = 0
    constant: int = 0

    def may_be(self, number: int) -> bool:
        """Whether it can be about this leaf or register."""
        return (number ^ self.number) & self.constant == 0


def questions(image: KernelImage) -> Mapping[int, Question]:
    """All CPUIDs, and the RDMSRs of those who read the MSRs in question, by address."""
    return {
        address: question
        for area in code_areas(image)
        for opcode in _INPUTS
        for address, question in _in_area(image, area, opcode)
    }


def _in_area(image: KernelImage, area: CodeArea, opcode: bytes) -> Iterator[tuple[int, Question]]:
    found = verify(image, area, area.find(opcode))
    for address in found.undecided:
        yield address, Question(opcode)
    code = _Code(area)
    for address, function in found.functions.items():
        enclosing = image.symbols.enclosing(address)
        if enclosing and (opcode == CPUID or function in _MSR_READERS):
            yield address, code.question(opcode, address - enclosing[1], address)


class _Code:
    """Code to be followed backwards."""

    def __init__(self, area: CodeArea) -> None:
        self._area = area
        self._bytes = np.frombuffer(area.code, np.uint8)
        self._decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._decoder.detail = True

    def question(self, opcode: bytes, function: int, address: int) -> Question:
        """Go back to what loaded the register, unless something can jump in between.

        That a jump table does is not seen; kernels with retpolines have none.
        """
        asked = _INPUTS[opcode]
        cleared = {asked.whole: _ALL, asked.low_half: _LOW_HALF}
        starts = instruction_starts(self._area, function, address + _REACH)
        for at in sorted((at for at in starts if at < address), reverse=True):
            instruction = self._decoded(at)
            between = range(at + 1, address + 1)
            if instruction is None or self._entered(between, starts):
                break
            left, right = (*instruction.op_str.split(", "), "", "")[:2]
            if instruction.mnemonic == "mov" and left == asked.whole and _is_number(right):
                return Question(opcode, int(right, 0) & _ALL, _ALL)
            if instruction.mnemonic == "xor" and left == right in cleared:
                return Question(opcode, 0, cleared[left])
            if _does_not_keep(instruction, asked):
                break
        return Question(opcode)

    def _decoded(self, address: int) -> capstone.CsInsn | None:
        at = address - self._area.address
        return next(self._decoder.disasm(self._area.code[at : at + 15], address, 1), None)

    def _entered(self, addresses: range, starts: Iterable[int]) -> bool:
        """Whether a short branch at `starts`, or what reads as a near one, leads there."""
        first = addresses.start - self._area.address
        if ((self._near >= first) & (self._near < first + len(addresses))).any():
            return True
        return any(self._short(start) in addresses for start in starts)

    def _short(self, address: int) -> int | None:
        """Where the short branch there leads to."""
        at = address - self._area.address
        distance = int.from_bytes(self._area.code[at + 1 : at + 2], "little", signed=True)
        return address + 2 + distance if self._area.code[at] in _SHORT else None

    @cached_property
    def _near(self) -> NDArray[np.int64]:
        """Where near branches lead to, as offsets in the area."""
        code = self._bytes[:-4]
        near = np.flatnonzero(np.isin(code, list(_NEAR)))
        conditional = np.flatnonzero((code[:-1] == _CONDITIONAL) & (code[1:] & 0xF0 == 0x80)) + 1
        places = np.concatenate([near, conditional]) + 1
        distances = self._bytes[places[:, None] + np.arange(4)].view("<i4")[:, 0]
        return places + 4 + distances.astype(np.int64)


def _is_number(operand: str) -> bool:
    return operand[:1].isdigit() or operand[:1] == "-"


def _does_not_keep(instruction: capstone.CsInsn, asked: _Input) -> bool:
    """Whether the register may be another one after it, or it may not be followed by the next."""
    if instruction.group(capstone.CS_GRP_JUMP):
        return bool(instruction.mnemonic == "jmp")
    ends = (capstone.CS_GRP_CALL, capstone.CS_GRP_RET, capstone.CS_GRP_INT)
    if any(map(instruction.group, ends)):
        return True
    written = instruction.regs_access()[1]
    return any(instruction.reg_name(register) in asked.names for register in written)

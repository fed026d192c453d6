# SPDX-License-Identifier: GPL-2.0-or-later
"""A function's instructions, and where what they address lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]
import numpy as np
from capstone import x86 as cx

from staleline.errors import KernelImageError
from staleline.hardware import MASK_64
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.refused import LONGEST_INSTRUCTION, decode_refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from staleline.kernel.image.image import KernelImage

__all__ = [
    "ENDS",
    "PlainInstruction",
    "function_code",
    "function_size",
    "instruction_at",
    "leads_to",
    "operand_address",
    "plain_code",
    "reached_code",
    "stores_by",
]

#: A function longer than this is a gap in the symbols.
_LONGEST_FUNCTION: Final = 0x1_0000


def function_code(
    image: KernelImage, function: int, told_from: int = 0
) -> Iterator[capstone.CsInsn]:
    """Of one function, to where the next begins.

    Args:
        image: The kernel.
        function: Its address.
        told_from: Of what ends before or at this address is only seen that it is instructions,
            which takes a tenth of the time.

    Raises:
        DerivationError: Some of its bytes are no instruction that is known here.
    """
    name = next(iter(image.symbols.names_at(function)), hex(function))
    size = function_size(image, function)
    if size is None or size > _LONGEST_FUNCTION:
        raise DerivationError(f"where {name}() ends is not known")
    code, at = image.read(function, size), 0
    while at < size:
        start = at
        if function + at < told_from:
            at = _passed(code, function, at, told_from)
        if function + at + LONGEST_INSTRUCTION > told_from:
            for one in _DISASSEMBLER.disasm(code[at:], function + at):
                yield one
                at = one.address + one.size - function
        if at < size:
            refused = decode_refused(code[at : at + LONGEST_INSTRUCTION])
            at += _unread_length(code[at:]) if refused is None else refused.length
        if at == start:
            raise DerivationError(f"{name}+{at:#x} is no instruction that is known here")


def _passed(code: bytes, function: int, at: int, told_from: int) -> int:
    """How far the instructions go that end before or at an address."""
    until = told_from - function
    for address, size, _, _ in _PLAIN.disasm_lite(
        code[at : until + LONGEST_INSTRUCTION], function + at
    ):
        if address + size > told_from:
            break
        at = address + size - function
    return at


def _unread_length(code: bytes) -> int:
    """Length of what capstone 5 does not read, or 0: INVLPGB and others, and LKGS of a register."""
    if code[:2] == b"\x0f\x01" and code[2:3] >= b"\xc0":
        return 3
    return 4 if code[:3] == b"\xf2\x0f\x00" and code[3:4] >= b"\xc0" else 0


def function_size(image: KernelImage, function: int) -> int | None:
    """To where another begins; of several with its name this one's."""
    addresses = image.symbols.sorted_addresses
    following = int(np.searchsorted(addresses, np.uint64(function), "right"))
    return int(addresses[following]) - function if following < len(addresses) else None


#: Mnemonics of what nothing follows. UD2 is none: behind that of a WARN() the kernel goes on (linux
#: 7.3.4 arch/x86/include/asm/bug.h:16,134).
ENDS: Final = frozenset(("ret", "hlt", "int3"))


@dataclass(frozen=True, slots=True)
class PlainInstruction:
    """What is needed to follow code.

    Attributes:
        size: In bytes.
        mnemonic: Without prefixes.
        target: Where a direct call or jump leads; None for any other instruction.
    """

    size: int
    mnemonic: str
    target: int | None

    @property
    def is_jump(self) -> bool:
        """A jump, conditional or not, and no call."""
        return self.mnemonic.startswith(("j", "loop"))

    @property
    def is_conditional(self) -> bool:
        """A jump that may not be taken."""
        return self.is_jump and self.mnemonic != "jmp"


def plain_code(image: KernelImage, start: int) -> Mapping[int, PlainInstruction]:
    """By address, from one place to the end of its function or where it is not known any more."""
    enclosing = image.symbols.enclosing(start)
    size = None if enclosing is None else function_size(image, start - enclosing[1])
    if enclosing is None or size is None or size > _LONGEST_FUNCTION:
        return {}
    try:
        code = image.read(start, size - enclosing[1])
    except KernelImageError:
        return {}
    return {
        at: PlainInstruction(length, mnemonic.split()[-1], _target(mnemonic, operands))
        for at, length, mnemonic, operands in _PLAIN.disasm_lite(code, start)
    }


def reached_code(image: KernelImage, start: int) -> Mapping[int, PlainInstruction]:
    """What a function may execute, by address: its own code, and what was split off from it.

    Calls return; jumps through registers and to other functions lead out of it.
    """
    code: dict[int, PlainInstruction] = {}
    reached: dict[int, PlainInstruction] = {}
    pending = [start]
    while pending:
        address = pending.pop()
        if address in reached:
            continue
        if address not in code:
            code |= plain_code(image, address)
        if address not in code:
            continue
        instruction = reached[address] = code[address]
        inside = (
            instruction.is_jump
            and instruction.target is not None
            and not image.symbols.names_at(instruction.target)
        )
        if inside and instruction.target is not None:
            pending.append(instruction.target)
        if instruction.mnemonic not in ENDS and (
            instruction.is_conditional or not instruction.is_jump
        ):
            pending.append(address + instruction.size)
    return reached


def _target(mnemonic: str, operands: str) -> int | None:
    """Of a call or jump, of which it is the only operand."""
    # Behind a prefix, as in BND JMP and NOTRACK JMP.
    branches = mnemonic.startswith(("j", "loop")) or mnemonic.rsplit(maxsplit=1)[-1] in (
        "call",
        "jmp",
    )
    return int(operands, 16) if branches and operands.startswith("0x") else None


def instruction_at(read: Callable[[int, int], bytes], address: int) -> capstone.CsInsn | None:
    """The one at an address; None if there is none that is known here.

    Args:
        read: Gives the bytes at an address.
        address: Where it begins.
    """
    try:
        code = read(address, LONGEST_INSTRUCTION)
    except (KernelImageError, DerivationError):
        return None
    return next(_DISASSEMBLER.disasm(code, address, 1), None)


def leads_to(instruction: capstone.CsInsn) -> int | None:
    """Where a direct call or jump leads; None for any other instruction."""
    groups = capstone.CS_GRP_CALL, capstone.CS_GRP_JUMP
    if not any(map(instruction.group, groups)):
        return None
    target = instruction.operands[0]
    return int(target.imm) & MASK_64 if target.type == cx.X86_OP_IMM else None


def operand_address(instruction: capstone.CsInsn, operand: capstone.x86.X86Op) -> int | None:
    """The address that an operand is, or points to without a register but RIP."""
    if operand.type == cx.X86_OP_IMM:
        return int(operand.imm) & MASK_64
    if operand.type != cx.X86_OP_MEM:
        return None
    if operand.mem.base == cx.X86_REG_RIP:
        return int(instruction.address + instruction.size + operand.mem.disp) & MASK_64
    # With a register: an index into a table, or a place in a structure, of any size.
    return int(operand.mem.disp) & MASK_64


def stores_by(instruction: capstone.CsInsn) -> Iterator[capstone.x86.X86Op]:
    """Its operands in memory that it stores to, as far as it does so by an operand."""
    for index, operand in enumerate(instruction.operands):
        # What capstone 5 says of an operand's use is wrong for MOVUPS and CMPXCHG, among others, so
        # all that may be stored to is, but for what is known to be read.
        if operand.type == cx.X86_OP_MEM and (
            operand.access & capstone.CS_AC_WRITE
            or (index == 0 and instruction.id not in _READING_FIRST)
        ):
            yield operand


_READING_FIRST: Final = frozenset(
    (
        *(cx.X86_INS_CMP, cx.X86_INS_TEST, cx.X86_INS_BT, cx.X86_INS_PUSH, cx.X86_INS_NOP),
        *(cx.X86_INS_CALL, cx.X86_INS_JMP, cx.X86_INS_LCALL, cx.X86_INS_LJMP, cx.X86_INS_VERW),
        *(cx.X86_INS_MUL, cx.X86_INS_IMUL, cx.X86_INS_DIV, cx.X86_INS_IDIV, cx.X86_INS_VERR),
        *(cx.X86_INS_LGDT, cx.X86_INS_LIDT, cx.X86_INS_LLDT, cx.X86_INS_LTR, cx.X86_INS_LMSW),
        *(cx.X86_INS_PREFETCH, cx.X86_INS_PREFETCHNTA, cx.X86_INS_PREFETCHT0),
        *(cx.X86_INS_PREFETCHT1, cx.X86_INS_PREFETCHT2, cx.X86_INS_PREFETCHW),
        *(cx.X86_INS_CLFLUSH, cx.X86_INS_CLFLUSHOPT, cx.X86_INS_INVLPG, cx.X86_INS_LDMXCSR),
    )
)
_PLAIN: Final = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
_DISASSEMBLER: Final = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
_DISASSEMBLER.detail = True

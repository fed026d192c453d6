# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pointers of a table a function writes to, instruction by instruction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]
from capstone import x86 as cx

from staleline.hardware import MASK_64
from staleline.kernel.inventory.functioncode import (
    function_code,
    leads_to,
    operand_address,
    stores_by,
)

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.inventory.pointers import Pointers

__all__ = ["slots_written"]

#: Registers that arguments are given in, which a call does not keep (System V ABI, AMD64, 3.2.3).
_ARGUMENTS: Final = (
    *(cx.X86_REG_RDI, cx.X86_REG_RSI, cx.X86_REG_RDX, cx.X86_REG_RCX),
    *(cx.X86_REG_R8, cx.X86_REG_R9),
)
_STRING_STORES: Final = frozenset(
    (
        *(cx.X86_INS_MOVSB, cx.X86_INS_MOVSD, cx.X86_INS_MOVSQ, cx.X86_INS_MOVSW),
        *(cx.X86_INS_STOSB, cx.X86_INS_STOSD, cx.X86_INS_STOSQ, cx.X86_INS_STOSW),
    )
)
#: Of the prefixes of the first group. LOCK is one too, behind which a register may be put into
#: memory.
_REPEATED: Final = (cx.X86_PREFIX_REP, cx.X86_PREFIX_REPNE)
#: Instructions that keep no address that they are given.
_LOOKING: Final = frozenset((cx.X86_INS_CMP, cx.X86_INS_TEST, cx.X86_INS_NOP))
#: What compilers call to have an access checked, and by how much an address is shifted for that
#: (arch/x86/include/asm/kasan.h KASAN_SHADOW_SCALE_SHIFT, mm/kasan/ and mm/kmsan/, linux 6.12).
_CHECKS: Final = ("__asan_", "__kasan_", "__tsan_", "__msan_")
_SHADOW_SHIFT: Final = 3
#: Those that do not use what their first operand held, if that is a register.
_OVERWRITING: Final = frozenset(
    (cx.X86_INS_MOV, cx.X86_INS_MOVABS, cx.X86_INS_MOVZX, cx.X86_INS_LEA, cx.X86_INS_POP)
)


def slots_written(
    image: KernelImage, function: int, tables: Sequence[Pointers], first: int
) -> Iterator[int]:
    """By its stores, and by what it does with registers that point into a table.

    From one instruction to the next, wherever jumps lead, from the first on that has what may be
    an address of a table: before it nothing points there.
    """
    pointing: dict[int, int] = {}
    for instruction in function_code(image, function, first):
        for operand in stores_by(instruction):
            address = _stored_to(instruction, operand, pointing)
            if address is not None:
                for table in tables:
                    yield from table.reached(address, operand.size)
        given = _given_away(image, instruction, pointing)
        for table in tables:
            fills = instruction.id in _STRING_STORES
            reached = table.reachable if fills else table.extent
            if any(address in reached for address in given):
                yield from table.slots
        _follow(instruction, pointing, tables)


def _stored_to(
    instruction: capstone.CsInsn, operand: capstone.x86.X86Op, pointing: dict[int, int]
) -> int | None:
    base = operand.mem.base
    if base in pointing:
        return pointing[base] + int(operand.mem.disp)
    return operand_address(instruction, operand)


def _given_away(
    image: KernelImage, instruction: capstone.CsInsn, pointing: Mapping[int, int]
) -> tuple[int, ...]:
    """Addresses that others may write to behind an instruction, or it itself, as far as it likes.

    To a function they are given as arguments, or on the stack or in memory; out of what is
    computed of one, but by a constant, comes another that is not followed.
    """
    # Mostly no register does, and what the decoder tells of an instruction takes long to ask for.
    if not pointing and instruction.id != cx.X86_INS_PUSH:
        return ()
    if instruction.group(capstone.CS_GRP_CALL) or instruction.group(capstone.CS_GRP_JUMP):
        if not _takes_arguments(image, instruction):
            return ()
        return tuple(pointing[each] for each in _ARGUMENTS if each in pointing)
    if instruction.prefix[0] in _REPEATED or instruction.id in _STRING_STORES:
        stores = instruction.id in _STRING_STORES and cx.X86_REG_RDI in pointing
        return (pointing[cx.X86_REG_RDI],) if stores else ()
    if (
        instruction.id in _LOOKING
        or _is_shadowed(instruction)
        or _moved(instruction, pointing) is not None
    ):
        return ()
    # As the base of an operand it is where that lies, and is told by `_stored_to`.
    used = {_whole(each.reg) for each in instruction.operands if each.type == cx.X86_OP_REG}
    if instruction.id == cx.X86_INS_PUSH and instruction.operands[0].type == cx.X86_OP_IMM:
        return (int(instruction.operands[0].imm) & MASK_64,)
    used -= {_whole(instruction.operands[0].reg)} if instruction.id in _OVERWRITING else set()
    used |= {_whole(each.mem.index) for each in instruction.operands if each.type == cx.X86_OP_MEM}
    return tuple(pointing[register] for register in used if register in pointing)


def _takes_arguments(image: KernelImage, instruction: capstone.CsInsn) -> bool:
    """Does a call or jump lead to another function, that does not just check an address?"""
    target = leads_to(instruction)
    if target is None:
        return True
    if instruction.group(capstone.CS_GRP_JUMP):
        here, there = map(image.symbols.start_of, (instruction.address, target))
        return here is None or here != there
    return not any(name.startswith(_CHECKS) for name in image.symbols.names_at(target))


def _is_shadowed(one: capstone.CsInsn) -> bool:
    """Is it made the number of a byte that says whether memory may be used?"""
    return bool(one.id == cx.X86_INS_SHR and one.operands[-1].imm == _SHADOW_SHIFT)


def _moved(instruction: capstone.CsInsn, pointing: Mapping[int, int]) -> tuple[int, int] | None:
    """A register that points somewhere because another does, and where."""
    if not instruction.operands or instruction.operands[0].type != cx.X86_OP_REG:
        return None
    into, source = _whole(instruction.operands[0].reg), instruction.operands[-1]
    if instruction.id == cx.X86_INS_MOV and source.type == cx.X86_OP_REG:
        base, distance = _whole(source.reg), 0
    elif instruction.id == cx.X86_INS_LEA and not source.mem.index:
        base, distance = source.mem.base, int(source.mem.disp)
    elif instruction.id in (cx.X86_INS_ADD, cx.X86_INS_SUB) and source.type == cx.X86_OP_IMM:
        base, distance = into, int(source.imm)
        distance = -distance if instruction.id == cx.X86_INS_SUB else distance
    else:
        return None
    return (into, (pointing[base] + distance) & MASK_64) if base in pointing else None


def _follow(
    instruction: capstone.CsInsn, pointing: dict[int, int], tables: Sequence[Pointers]
) -> None:
    """Which registers point into a table, or near one, behind an instruction."""
    written = {_whole(register) for register in instruction.regs_access()[1]} if pointing else set()
    put = _moved(instruction, pointing) if pointing else None
    if put is None and instruction.id in (cx.X86_INS_LEA, cx.X86_INS_MOV, cx.X86_INS_MOVABS):
        into, source = instruction.operands
        constant = instruction.id == cx.X86_INS_LEA or source.type == cx.X86_OP_IMM
        address = operand_address(instruction, source) if constant else None
        if into.type == cx.X86_OP_REG and address is not None:
            put = _whole(into.reg), address
    if instruction.group(capstone.CS_GRP_CALL):
        written |= {cx.X86_REG_RAX, cx.X86_REG_R10, cx.X86_REG_R11, *_ARGUMENTS}
    for register in written:
        pointing.pop(register, None)
    if put is not None and any(put[1] in table.reachable for table in tables):
        pointing[put[0]] = put[1]


def _whole(register: int) -> int:
    """The 64-bit register that a 32-bit one is half of."""
    return int(_WHOLE.get(register, register))


_WHOLE: Final = {
    getattr(cx, f"X86_REG_{half}"): getattr(cx, f"X86_REG_{whole}")
    for half, whole in [
        *((f"E{name}", f"R{name}") for name in ("AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP")),
        *((f"R{number}D", f"R{number}") for number in range(8, 16)),
    ]
}

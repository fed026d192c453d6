# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions write to some pointers of a table, or may.

All code is searched for the pointers' addresses, as they lie in an instruction: relative to where
it ends, or as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]
import numpy as np
from capstone import x86 as cx

from staleline.hardware import MASK_32, MASK_64
from staleline.kernel.derivation import DerivationError
from staleline.kernel.inventory.codescan import code_areas
from staleline.kernel.inventory.functioncode import (
    function_code,
    leads_to,
    operand_address,
    plain_code,
    stores_by,
)

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.inventory.codescan import CodeArea

__all__ = ["Pointers", "TableWrite", "pointers_into", "table_writes"]

#: So many numbers fit into a CPU's cache, and are looked at in one go.
_AT_ONCE: Final = 1 << 16
#: The widest store that begins before a pointer and reaches it.
_WIDEST: Final = 64
#: Behind the displacement may be an immediate of up to so many bytes.
_IMMEDIATE: Final = 4
#: Instructions of the one-byte map that read what their ModRM addresses, whatever its middle is.
_READING: Final = frozenset(
    (
        *(0x38, 0x39, 0x3A, 0x3B, 0x63, 0x84, 0x85, 0x8A, 0x8B),
        *(0x02, 0x03, 0x0A, 0x0B, 0x12, 0x13, 0x1A, 0x1B),  # ADD, OR, ADC, SBB to a register
        *(0x22, 0x23, 0x2A, 0x2B, 0x32, 0x33),  # AND, SUB, XOR
    )
)
#: And of the two-byte map: MOVZX, MOVSX, IMUL. By numbers of the first, others of it store, such as
#: MOVLPS; so do some of the maps behind it, and behind VEX and EVEX.
_READING_BEHIND_0F: Final = frozenset((0xB6, 0xB7, 0xBE, 0xBF, 0xAF))
_TWO_BYTE: Final = 0x0F
_THREE_BYTE: Final = (0x38, 0x3A)
#: By how much what begins such an instruction lies before its opcode.
_VECTOR_PREFIXES: Final = {2: 0xC5, 3: 0xC4, 4: 0x62}
#: Those of which it is read for some values of the middle: CALL, JMP, PUSH; CMP; TEST.
_READING_BY_MIDDLE: Final = {
    0xFF: frozenset((2, 4, 6)),
    0x80: frozenset((7,)),
    0x81: frozenset((7,)),
    0x83: frozenset((7,)),
    0xF6: frozenset((0,)),
    0xF7: frozenset((0,)),
}
_LEA: Final = 0x8D
_MOV_CONSTANT: Final = 0xB8
_PUSH_CONSTANT: Final = 0x68
#: ModRM: how its operand is addressed, and by which register.
_MOD: Final = 0xC0
_MOD_AND_RM: Final = 0xC7
_BY_RIP: Final = 0x05
_MOD_DISPLACEMENT: Final = 0x80
_MODRM_REGISTER: Final = 0xC0
_WITH_SIB: Final = (0x04, 0x84)
_BY_SIB: Final = 4
_ABSOLUTE_SIB: Final = 0x25
#: Prefixes, opcode, ModRM and SIB.
_LONGEST_PREFIX: Final = 8
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
#: By what a kernel with KASAN learns of its globals.
_REGISTERS_GLOBALS: Final = "__asan_register_globals"
_RED_ZONE: Final = 32
#: Those that do not use what their first operand held, if that is a register.
_OVERWRITING: Final = frozenset(
    (cx.X86_INS_MOV, cx.X86_INS_MOVABS, cx.X86_INS_MOVZX, cx.X86_INS_LEA, cx.X86_INS_POP)
)


@dataclass(frozen=True, slots=True)
class Pointers:
    """Some of a table.

    Attributes:
        table: Where it begins.
        slots: Their addresses, rising.
        size: Of each; what is no pointer may be smaller.
    """

    table: int
    slots: tuple[int, ...]
    size: int = 8

    @property
    def extent(self) -> range:
        """From the start of the table to behind the last of them."""
        return range(self.table, self.slots[-1] + self.size)

    @property
    def reachable(self) -> range:
        """Where what points to something of it may point, or a little before it."""
        return range(self.table - _WIDEST, self.extent.stop)

    def may_begin(self, address: int) -> bool:
        """Is it in the table, or so little before it that a store there may reach it?"""
        return self.table - _WIDEST < address < self.extent.stop

    def reached(self, address: int, size: int) -> tuple[int, ...]:
        """Those that so many bytes at an address overlap."""
        return tuple(at for at in self.slots if at < address + size and address < at + self.size)


@dataclass(frozen=True, slots=True, order=True)
class TableWrite:
    """A function that writes to one of them, or may.

    Attributes:
        function: Its name; an address where it has none.
        slot: Address of the pointer.
    """

    function: str
    slot: int


def table_writes(
    image: KernelImage,
    tables: Sequence[Pointers],
    areas: Iterable[CodeArea] | None = None,
    callee: int | None = None,
) -> tuple[TableWrite, ...]:
    """Search all code, or that of some areas.

    Args:
        image: The kernel.
        tables: What may be written to.
        areas: The code; all of it if None.
        callee: Address of a function; one that calls it or jumps there is told as well.
    """
    searched = code_areas(image) if areas is None else areas
    return tuple(sorted(set(_writes(image, tables, searched, callee))))


def pointers_into(image: KernelImage, table: Pointers) -> Iterator[str]:
    """What in the image holds an address of the table: where, by name."""
    start, extent = np.uint64(table.table), np.uint64(len(table.extent))
    distances = np.empty(_AT_ONCE, np.uint64)
    # Executable segments too: in 5.10 what follows .init is one (arch/x86/kernel/vmlinux.lds.S).
    for segment in image.segments:
        words = np.frombuffer(segment.data, "<u8", len(segment.data) // 8)
        for first in range(0, len(words), _AT_ONCE):
            count = min(_AT_ONCE, len(words) - first)
            # As unsigned numbers, of which what lies before the table is far behind it.
            np.subtract(words[first : first + count], start, out=distances[:count])
            if np.minimum.reduce(distances[:count]) >= extent:
                continue
            for at in (first + np.flatnonzero(distances[:count] < extent)).tolist():
                if _describes(image, [int(word) for word in words[at : at + 3]]):
                    continue
                place = segment.virtual_address + 8 * at
                yield image.symbols.place(place)


def _describes(image: KernelImage, words: Sequence[int]) -> bool:
    """Is it a ``struct kasan_global`` (mm/kasan/kasan.h, linux 6.12)?"""
    if _REGISTERS_GLOBALS not in image.symbols or len(words) < 3:
        return False
    # An address, a size, and what that becomes with a red zone, of which none is written by.
    _, size, whole = words
    return 0 < size < whole and whole % _RED_ZONE == 0


def _writes(
    image: KernelImage,
    tables: Sequence[Pointers],
    areas: Iterable[CodeArea],
    callee: int | None,
) -> Iterator[TableWrite]:
    functions: dict[int, str] = {}
    referred: dict[int, set[Pointers]] = {}
    for area in areas:
        places, branches = _references(area, [table.extent for table in tables], callee)
        writing = {place for place in places if _may_write(area, place, tables)}
        for place in writing | branches:
            name, distance = image.symbols.enclosing(place) or (hex(place), 0)
            if callee is not None and place in branches:
                code = plain_code(image, place - distance).values()
                yield from {TableWrite(name, callee) for one in code if one.target == callee}
            if place in writing:
                functions[place - distance] = name
                tables_here = {table for table in tables if _may_write(area, place, [table])}
                referred.setdefault(place - distance, set()).update(tables_here)
    for function, name in functions.items():
        try:
            slots = set(_slots_written(image, function, tables))
        except DerivationError:
            # Then what looks like a reference counts as a write to all of the table.
            slots = {slot for table in referred[function] for slot in table.slots}
        yield from (TableWrite(name, slot) for slot in slots)


def _references(
    area: CodeArea, extents: Sequence[range], callee: int | None
) -> tuple[set[int], set[int]]:
    """Places of four bytes that may be the address of something in one of the extents.

    Or so little before it that a store or an immediate reaches there. And those that are the
    distance to a function.
    """
    wanted = [range(extent.start - _WIDEST - _IMMEDIATE, extent.stop) for extent in extents]
    places: set[int] = set()
    branches: set[int] = set()
    offsets = np.arange(_AT_ONCE, dtype=np.uint32) * np.uint32(4)
    ends, distances = np.empty(_AT_ONCE, np.uint32), np.empty(_AT_ONCE, np.uint32)
    starts = (
        start for shift in range(4) for start in range(shift, len(area.code) - 3, 4 * _AT_ONCE)
    )
    for start in starts:
        count = min(_AT_ONCE, (len(area.code) - start) // 4)
        values = np.frombuffer(area.code, "<u4", count, start)
        np.add(values, offsets[:count], out=ends[:count])
        behind = area.address + start + 4
        for table in wanted:
            # As an address, and relative to the end of the instruction.
            for targets, origin in ((values, table.start), (ends[:count], table.start - behind)):
                np.subtract(targets, np.uint32(origin & MASK_32), out=distances[:count])
                # Mostly none is inside, which their least tells sooner than each of them.
                if np.minimum.reduce(distances[:count]) < len(table):
                    inside = np.flatnonzero(distances[:count] < np.uint32(len(table)))
                    places.update(start + 4 * at for at in inside.tolist())
        if callee is not None:
            distance = ends[:count] == np.uint32(callee - behind & MASK_32)
            branches.update(start + 4 * at for at in np.flatnonzero(distance).tolist())
    places, branches = ({area.address + place for place in found} for found in (places, branches))
    return places, branches


def _may_write(area: CodeArea, place: int, tables: Sequence[Pointers]) -> bool:
    """May it be an operand of an instruction that writes there, by what lies in front of it?"""
    code, at = area.code, place - area.address
    if at < _LONGEST_PREFIX:
        return True
    last, before = code[at - 1], code[at - 2]
    reads, reads_by_sib = _reads(code, at - 2), _reads(code, at - 3)
    value = int.from_bytes(code[at : at + 4], "little", signed=True)
    # An immediate of up to four bytes may follow, behind which RIP is.
    by_rip = any(table.reached(place + 4 + value, _WIDEST + _IMMEDIATE) for table in tables)
    if last & _MOD_AND_RM == _BY_RIP and (before == _LEA or (by_rip and not reads)):
        return True
    if not any(table.may_begin(value & MASK_64) for table in tables):
        return False
    if last == _ABSOLUTE_SIB and before & 7 == _BY_SIB:
        return not reads_by_sib
    if before & _MOD_AND_RM in _WITH_SIB and not reads_by_sib:
        return True
    if last == _PUSH_CONSTANT or last & 0xF8 in (_MOV_CONSTANT, _MODRM_REGISTER):
        return True
    return last & _MOD == _MOD_DISPLACEMENT and not reads


def _reads(code: bytes, at: int) -> bool:
    """Does an instruction only read whose opcode is there, if one is, with its ModRM behind it?"""
    opcode, modrm, before = code[at], code[at + 1], code[at - 1]
    if before == _TWO_BYTE:
        return opcode in _READING_BEHIND_0F
    if before in _THREE_BYTE and code[at - 2] == _TWO_BYTE:
        return False
    # What looks like a prefix may belong to what is in front; then it is looked at more closely.
    if any(code[at - distance] == prefix for distance, prefix in _VECTOR_PREFIXES.items()):
        return False
    return opcode in _READING or modrm >> 3 & 7 in _READING_BY_MIDDLE.get(opcode, ())


def _slots_written(image: KernelImage, function: int, tables: Sequence[Pointers]) -> Iterator[int]:
    """By its stores, and by what it does with registers that point into a table.

    From one instruction to the next, wherever jumps lead.
    """
    pointing: dict[int, int] = {}
    for instruction in function_code(image, function):
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

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions write to some pointers of a table, or may.

All code is searched for the pointers' addresses, as they lie in an instruction: relative to where
it ends, or as they are. What only reads is left out by its opcode, the rest is disassembled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]
import numpy as np
from capstone import x86 as cx

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

__all__ = ["Pointers", "TableWrite", "table_writes"]

#: So many numbers fit into a CPU's cache, and are looked at in one go.
_AT_ONCE: Final = 1 << 16
_MASK_32: Final = (1 << 32) - 1
_MASK_64: Final = (1 << 64) - 1
#: The widest store that begins before a pointer and reaches it.
_WIDEST: Final = 16
#: Behind the displacement may be an immediate of up to so many bytes.
_IMMEDIATE: Final = 4
#: Instructions of the one-byte map that read what their ModRM addresses, whatever its middle is.
_READING: Final = frozenset((0x38, 0x39, 0x3A, 0x3B, 0x63, 0x84, 0x85, 0x8A, 0x8B))
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
#: Functions that fill what their first argument points to.
_FILLING: Final = frozenset(("memcpy", "__memcpy", "memmove", "__memmove", "memset", "__memset"))


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
    known: Set[str] = frozenset(),
    areas: Iterable[CodeArea] | None = None,
    callee: int | None = None,
) -> tuple[TableWrite, ...]:
    """Search all code, or that of some areas, but for functions of some names.

    Args:
        image: The kernel.
        tables: What may be written to.
        known: Names of functions that are passed over.
        areas: The code; all of it if None.
        callee: Address of a function; one that calls it or jumps there is told as well.
    """
    searched = code_areas(image) if areas is None else areas
    return tuple(sorted(set(_writes(image, tables, known, searched, callee))))


def _writes(
    image: KernelImage,
    tables: Sequence[Pointers],
    known: Set[str],
    areas: Iterable[CodeArea],
    callee: int | None,
) -> Iterator[TableWrite]:
    functions: dict[int, str] = {}
    for area in areas:
        places, branches = _references(area, [table.extent for table in tables], callee)
        for place in places | branches:
            name, distance = image.symbols.enclosing(place) or (hex(place), 0)
            if name.split(".")[0] in known:
                continue
            if callee is not None and place in branches:
                code = plain_code(image, place - distance).values()
                yield from {TableWrite(name, callee) for one in code if one.target == callee}
            if place in places and _may_write(area, place, tables):
                functions[place - distance] = name
    for function, name in functions.items():
        try:
            slots = set(_slots_written(image, function, tables))
        except DerivationError:
            # Then what looks like a reference counts as a write to all.
            slots = {slot for table in tables for slot in table.slots}
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
        for one in wanted:
            # As an address, and relative to the end of the instruction.
            for targets, origin in ((values, one.start), (ends[:count], one.start - behind)):
                np.subtract(targets, np.uint32(origin & _MASK_32), out=distances[:count])
                if np.minimum.reduce(distances[:count]) < len(one):
                    inside = np.flatnonzero(distances[:count] < np.uint32(len(one)))
                    places.update(start + 4 * at for at in inside.tolist())
        if callee is not None:
            distance = ends[:count] == np.uint32(callee - behind & _MASK_32)
            branches.update(start + 4 * at for at in np.flatnonzero(distance).tolist())
    places, branches = ({area.address + place for place in found} for found in (places, branches))
    return places, branches


def _may_write(area: CodeArea, place: int, tables: Sequence[Pointers]) -> bool:
    """May it be an operand of an instruction that writes there, by what lies in front of it?"""
    code, at = area.code, place - area.address
    if at < _LONGEST_PREFIX:
        return True
    last, before = code[at - 1], code[at - 2]
    value = int.from_bytes(code[at : at + 4], "little", signed=True)
    # An immediate of up to four bytes may follow, behind which RIP is.
    by_rip = any(table.reached(place + 4 + value, _WIDEST + _IMMEDIATE) for table in tables)
    if last & _MOD_AND_RM == _BY_RIP and (before == _LEA or (by_rip and not _reads(before, last))):
        return True
    if not any(table.may_begin(value & _MASK_64) for table in tables):
        return False
    if last == _ABSOLUTE_SIB and before & 7 == _BY_SIB:
        return not _reads(code[at - 3], before)
    has_displacement = last & _MOD == _MOD_DISPLACEMENT or before & _MOD_AND_RM in _WITH_SIB
    is_constant = last & 0xF8 in (_MOV_CONSTANT, _MODRM_REGISTER)
    return (has_displacement and not _reads(before, last)) or is_constant


def _reads(opcode: int, modrm: int) -> bool:
    return opcode in _READING or modrm >> 3 & 7 in _READING_BY_MIDDLE.get(opcode, ())


def _slots_written(image: KernelImage, function: int, tables: Sequence[Pointers]) -> Iterator[int]:
    """By its stores, and by what it does with registers that point into a table.

    From one instruction to the next, wherever jumps lead.
    """
    pointing: dict[int, int] = {}
    for one in function_code(image, function):
        for operand in stores_by(one):
            address = _stored_to(one, operand, pointing)
            if address is not None:
                for table in tables:
                    yield from table.reached(address, operand.size)
        target = pointing.get(cx.X86_REG_RDI)
        if target is not None and _fills(image, one):
            yield from (slot for table in tables if target in table.extent for slot in table.slots)
        _follow(one, pointing, tables)


def _stored_to(
    one: capstone.CsInsn, operand: capstone.x86.X86Op, pointing: dict[int, int]
) -> int | None:
    base = operand.mem.base
    if base in pointing:
        return pointing[base] + int(operand.mem.disp)
    return operand_address(one, operand)


def _fills(image: KernelImage, one: capstone.CsInsn) -> bool:
    """Does it write to what RDI points to, as far as that goes?"""
    target = leads_to(one)
    if target is not None:
        return not _FILLING.isdisjoint(image.symbols.names_at(target))
    return bool(one.prefix[0]) and one.id in (
        *(cx.X86_INS_MOVSB, cx.X86_INS_MOVSD, cx.X86_INS_MOVSQ, cx.X86_INS_MOVSW),
        *(cx.X86_INS_STOSB, cx.X86_INS_STOSD, cx.X86_INS_STOSQ, cx.X86_INS_STOSW),
    )


def _follow(one: capstone.CsInsn, pointing: dict[int, int], tables: Sequence[Pointers]) -> None:
    """Which registers point into a table behind an instruction."""
    written = {_whole(register) for register in one.regs_access()[1]}
    address = None
    if one.id in (cx.X86_INS_LEA, cx.X86_INS_MOV, cx.X86_INS_MOVABS):
        into, source = one.operands
        constant = one.id == cx.X86_INS_LEA or source.type == cx.X86_OP_IMM
        if into.type == cx.X86_OP_REG and constant:
            address = operand_address(one, source)
    for register in written:
        pointing.pop(register, None)
    if address is not None and any(address in table.extent for table in tables):
        pointing[_whole(one.operands[0].reg)] = address


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

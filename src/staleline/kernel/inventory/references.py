# SPDX-License-Identifier: GPL-2.0-or-later
"""Where code may refer to a table, by its bytes alone: all of a kernel is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from staleline.hardware import MASK_32, MASK_64
from staleline.kernel.inventory.pointers import WIDEST_STORE

if TYPE_CHECKING:
    from staleline.kernel.inventory.codescan import CodeArea
    from staleline.kernel.inventory.pointers import Pointers

__all__ = ["AT_ONCE", "may_write", "references"]

#: So many numbers fit into a CPU's cache, and are looked at in one go.
AT_ONCE: Final = 1 << 16
#: As far apart may be what is looked for together; a kernel's data is some ten MiB.
_FAR: Final = 1 << 25
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


def references(
    area: CodeArea, extents: Sequence[range], callee: int | None
) -> tuple[set[int], set[int]]:
    """Places of four bytes that may be the address of something in one of the extents.

    Or so little before it that a store or an immediate reaches there. And those that are the
    distance to a function.
    """
    wanted = [range(extent.start - WIDEST_STORE - _IMMEDIATE, extent.stop) for extent in extents]
    grouped = list(_grouped(wanted))
    places: set[int] = set()
    branches: set[int] = set()
    offsets = np.arange(AT_ONCE, dtype=np.uint32) * np.uint32(4)
    ends, distances = np.empty(AT_ONCE, np.uint32), np.empty(AT_ONCE, np.uint32)
    starts = (
        start for shift in range(4) for start in range(shift, len(area.code) - 3, 4 * AT_ONCE)
    )
    for start in starts:
        count = min(AT_ONCE, (len(area.code) - start) // 4)
        values = np.frombuffer(area.code, "<u4", count, start)
        np.add(values, offsets[:count], out=ends[:count])
        behind = area.address + start + 4
        # As an address, and relative to the end of the instruction.
        for targets, origin in ((values, 0), (ends[:count], behind)):
            for around, tables in grouped:
                first = np.uint32(around.start - origin & MASK_32)
                np.subtract(targets, first, out=distances[:count])
                near = np.flatnonzero(distances[:count] < np.uint32(len(around)))
                for table in tables:
                    inside = distances[near] - np.uint32(table.start - around.start)
                    places.update((start + 4 * near[inside < np.uint32(len(table))]).tolist())
        if callee is not None:
            distance = ends[:count] == np.uint32(callee - behind & MASK_32)
            branches.update(start + 4 * at for at in np.flatnonzero(distance).tolist())
    places, branches = ({area.address + place for place in found} for found in (places, branches))
    return places, branches


def _grouped(wanted: Iterable[range]) -> Iterator[tuple[range, list[range]]]:
    """Ranges that are not far apart, and one around them: few addresses are in that at all."""
    group: list[range] = []
    for each in sorted(wanted, key=lambda one: one.start):
        if group and each.stop - group[0].start > _FAR:
            yield _around(group), group
            group = []
        group.append(each)
    if group:
        yield _around(group), group


def _around(group: Sequence[range]) -> range:
    return range(group[0].start, max(each.stop for each in group))


def may_write(area: CodeArea, place: int, tables: Sequence[Pointers]) -> bool:
    """May it be an operand of an instruction that writes there, by what lies in front of it?"""
    code, at = area.code, place - area.address
    if at < _LONGEST_PREFIX:
        return True
    last, before = code[at - 1], code[at - 2]
    reads, reads_by_sib = _reads(code, at - 2), _reads(code, at - 3)
    value = int.from_bytes(code[at : at + 4], "little", signed=True)
    # An immediate of up to four bytes may follow, behind which RIP is.
    by_rip = any(table.reached(place + 4 + value, WIDEST_STORE + _IMMEDIATE) for table in tables)
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

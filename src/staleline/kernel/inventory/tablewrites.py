# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions write to some pointers of a table, or may.

All code is searched for the pointers' addresses, as they lie in an instruction: relative to where
it ends, or as they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from staleline.kernel.derivation import DerivationError
from staleline.kernel.inventory.codescan import code_areas
from staleline.kernel.inventory.functioncode import plain_code
from staleline.kernel.inventory.references import AT_ONCE, may_write, references
from staleline.kernel.inventory.writtenslots import slots_written

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.inventory.codescan import CodeArea
    from staleline.kernel.inventory.pointers import Pointers

__all__ = ["TableWrite", "pointers_into", "table_writes"]

#: By what a kernel with KASAN learns of its globals.
_REGISTERS_GLOBALS: Final = "__asan_register_globals"
_RED_ZONE: Final = 32


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
    distances = np.empty(AT_ONCE, np.uint64)
    # Executable segments too: in 5.10 what follows .init is one (arch/x86/kernel/vmlinux.lds.S).
    for segment in image.segments:
        words = np.frombuffer(segment.data, "<u8", len(segment.data) // 8)
        for first in range(0, len(words), AT_ONCE):
            count = min(AT_ONCE, len(words) - first)
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
    first: dict[int, int] = {}
    for area in areas:
        places, branches = references(area, [table.extent for table in tables], callee)
        ascending = sorted(places)
        writing = {place for place in ascending if may_write(area, place, tables)}
        for place in writing | branches:
            name, distance = image.symbols.enclosing(place) or (hex(place), 0)
            if callee is not None and place in branches:
                code = plain_code(image, place - distance).values()
                yield from {TableWrite(name, callee) for one in code if one.target == callee}
            if place in writing:
                functions[place - distance] = name
                first[place - distance] = _first(ascending, place - distance)
                tables_here = {table for table in tables if may_write(area, place, [table])}
                referred.setdefault(place - distance, set()).update(tables_here)
    for function, name in functions.items():
        try:
            slots = set(slots_written(image, function, tables, first[function]))
        except DerivationError:
            # Then what looks like a reference counts as a write to all of the table.
            slots = {slot for table in referred[function] for slot in table.slots}
        yield from (TableWrite(name, slot) for slot in slots)


def _first(places: Sequence[int], function: int) -> int:
    """The first of ascending places that is not before a function."""
    return places[bisect_left(places, function)]

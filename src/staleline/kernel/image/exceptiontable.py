# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions of a kernel that may fault, and where it goes on if they do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import numpy as np

from staleline.hardware import MASK_64
from staleline.kernel.image.image import KernelImage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["expected_faults", "fault_fixups"]

#: A struct exception_table_entry for each (asm/extable.h, 5.16 to 7.3): two addresses relative to
#: their own place, and a type.
_SECTION: Final = "__ex_table"
_WORDS: Final = 3
#: The type that SEAMCALL has: its handler does no more than put the exception's number into RAX
#: (ex_handler_fault(), arch/x86/mm/extable.c; asm/extable_fixup_types.h).
_EX_TYPE_FAULT: Final = 2
_TYPE_MASK: Final = 0xFF
#: WRMSR and RDMSR of which nobody expects that they fail: the kernel warns and goes on behind, as
#: if 0 had been read (ex_handler_msr(); EX_TYPE_WRMSR and EX_TYPE_RDMSR). Up to 5.15 the third word
#: is a handler's place, ex_handler_wrmsr_unsafe() or ex_handler_rdmsr_unsafe() (5.10.262).
_UNSAFE_TYPES: Final = (8, 9)
_UNSAFE_HANDLERS: Final = frozenset(("ex_handler_wrmsr_unsafe", "ex_handler_rdmsr_unsafe"))
#: RDMSR and WRMSR have two bytes, and may have a prefix.
_LONGEST: Final = 5
_BOUNDS: Final = ("__start___ex_table", "__stop___ex_table")


def fault_fixups(image: KernelImage) -> Mapping[int, int]:
    """Address of an instruction -> where the kernel goes on, with the exception in RAX.

    Empty without such a table.
    """
    return {
        instruction: fixup
        for _, instruction, fixup, kind in _entries(image)
        if kind & _TYPE_MASK == _EX_TYPE_FAULT
    }


_EXPECTED: WeakKeyDictionary[KernelImage, Mapping[int, int]] = WeakKeyDictionary()


def expected_faults(image: KernelImage) -> Mapping[int, int]:
    """Address of an instruction that the kernel tries -> where it goes on if that fails.

    Whether it does depends on the machine: on whether it has an MSR, or there is memory. Not among
    them are those that do the same either way, but for a warning. Empty without such a table.
    """
    if image not in _EXPECTED:
        _EXPECTED[image] = {
            instruction: fixup
            for place, instruction, fixup, kind in _entries(image)
            if not (0 < fixup - instruction <= _LONGEST and _is_unsafe(image, place, kind))
        }
    return _EXPECTED[image]


def _is_unsafe(image: KernelImage, place: int, kind: int) -> bool:
    handler = (place + 8 + kind) & MASK_64
    names = image.symbols.names_at(handler)
    return kind in _UNSAFE_TYPES or not _UNSAFE_HANDLERS.isdisjoint(names)


def _entries(image: KernelImage) -> Iterator[tuple[int, int, int, int]]:
    """Of each: its place, the instruction's, where it goes on, and the third word."""
    start, content = _table(image)
    words = np.frombuffer(content[: len(content) // 12 * 12], "<i4").reshape(-1, _WORDS)
    for index, (instruction, fixup, kind) in enumerate(words.tolist()):
        place = start + index * 12
        yield (
            place,
            (place + instruction) & MASK_64,
            (place + 4 + fixup) & MASK_64,
            kind,
        )


def _table(image: KernelImage) -> tuple[int, bytes]:
    """Where it lies, and its content."""
    section = image.sections.get(_SECTION)
    if section is not None:
        return section.virtual_address, bytes(image.section_bytes(_SECTION))
    start, end = map(image.symbols.only_address, _BOUNDS)
    if start is None or end is None or not start < end:
        return 0, b""
    return start, bytes(image.read(start, end - start))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions of a kernel that may fault, and where it goes on if they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from staleline.kernel.image.image import KernelImage

__all__ = ["fault_fixups"]

#: A struct exception_table_entry for each (asm/extable.h, 5.16 to 7.3): two addresses relative to
#: their own place, and a type.
_SECTION: Final = "__ex_table"
_WORDS: Final = 3
#: The type that SEAMCALL has: its handler does no more than put the exception's number into RAX
#: (ex_handler_fault(), arch/x86/mm/extable.c; asm/extable_fixup_types.h).
_EX_TYPE_FAULT: Final = 2
_TYPE_MASK: Final = 0xFF
_MASK_64: Final = (1 << 64) - 1


def fault_fixups(image: KernelImage) -> Mapping[int, int]:
    """Address of an instruction -> where the kernel goes on, with the exception in RAX.

    Empty without such a table.
    """
    section = image.sections.get(_SECTION)
    if section is None:
        return {}
    content = image.section_bytes(_SECTION)
    entries = np.frombuffer(content[: len(content) // 12 * 12], "<i4").reshape(-1, _WORDS)
    indices = np.flatnonzero((entries[:, 2] & _TYPE_MASK) == _EX_TYPE_FAULT)
    fixups = {}
    for index in indices.tolist():
        place = section.virtual_address + index * 12
        instruction, fixup, _ = entries[index].tolist()
        fixups[(place + instruction) & _MASK_64] = (place + 4 + fixup) & _MASK_64
    return fixups

# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the emulated machine has its ``struct page`` of each page.

With CONFIG_SPARSEMEM_VMEMMAP, which all distributions have, they are numbered from one address, and
the kernel computes with that alone. Without it, it looks the section up that a page says it is of:
include/asm-generic/memory_model.h and include/linux/mmzone.h, linux 5.10 to 7.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.kernel.emulator.layout import (
    DEFAULT_VMEMMAP,
    PAGE_STRUCTURES,
    SECTION_ROOT,
    SECTION_ROOTS,
)
from staleline.kernel.image.symbols import required_address

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.image.image import KernelImage

__all__ = ["page_structure"]

_PAGE_SHIFT: Final = 12
_STRUCT_PAGE_SIZE: Final = 64
#: mm/sparse-vmemmap.c, which is built with the option only.
_OF_VMEMMAP: Final = "vmemmap_alloc_block"
_SECTIONS: Final = "mem_section"


def page_structure(image: KernelImage, memory: MachineMemory, physical: int) -> int:
    """Address of a page's ``struct page``.

    Raises:
        DerivationError: The kernel has neither way to find it.
    """
    return _first(image, memory) + (physical >> _PAGE_SHIFT) * _STRUCT_PAGE_SIZE


def _first(image: KernelImage, memory: MachineMemory) -> int:
    if _OF_VMEMMAP in image.symbols:
        return _vmemmap(image)
    sections = required_address(image.symbols, _SECTIONS)
    memory.write_int(sections, memory.direct(SECTION_ROOTS.start), 8)
    memory.write_int(SECTION_ROOTS.start, memory.direct(SECTION_ROOT.start), 8)
    memory.write_int(SECTION_ROOT.start, memory.direct(PAGE_STRUCTURES.start), 8)
    return memory.direct(PAGE_STRUCTURES.start)


def _vmemmap(image: KernelImage) -> int:
    """``vmemmap_base`` (a variable with CONFIG_DYNAMIC_MEMORY_LAYOUT), or the constant."""
    symbol = image.symbols.address("vmemmap_base")
    if symbol is None:
        return DEFAULT_VMEMMAP
    return int.from_bytes(image.read(symbol, 8), "little")

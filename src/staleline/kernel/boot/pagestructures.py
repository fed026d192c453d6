# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the emulated machine has its ``struct page`` of each page.

With CONFIG_SPARSEMEM_VMEMMAP, which all distributions have, they are numbered from one address, and
the kernel computes with that alone. Without it, it looks the section up that a page says it is of:
include/asm-generic/memory_model.h and include/linux/mmzone.h, linux 5.10 to 7.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.kernel.image.symbols import required_address

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.image.image import KernelImage

__all__ = ["page_structure"]

_PAGE_SHIFT: Final = 12
_STRUCT_PAGE_SIZE: Final = 64
#: ``__VMEMMAP_BASE_L4``, arch/x86/include/asm/pgtable_64_types.h.
_DEFAULT_VMEMMAP: Final = 0xFFFF_EA00_0000_0000
#: mm/sparse-vmemmap.c, which is built with the option only.
_OF_VMEMMAP: Final = "vmemmap_alloc_block"
_SECTIONS: Final = "mem_section"
#: Physical addresses behind the per-CPU areas: the structures of 16 MiB, which are all of section
#: 0, since nothing sets their flags; the table of roots; its first root, which begins with the
#: section's ``section_mem_map``.
_STRUCTURES: Final = 0xC0_0000
_ROOTS: Final = 0xD0_0000
_ROOT: Final = 0xD0_1000


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
    memory.write_int(sections, memory.direct(_ROOTS), 8)
    memory.write_int(_ROOTS, memory.direct(_ROOT), 8)
    memory.write_int(_ROOT, memory.direct(_STRUCTURES), 8)
    return memory.direct(_STRUCTURES)


def _vmemmap(image: KernelImage) -> int:
    """``vmemmap_base`` (a variable with CONFIG_DYNAMIC_MEMORY_LAYOUT), or the constant."""
    symbol = image.symbols.address("vmemmap_base")
    if symbol is None:
        return _DEFAULT_VMEMMAP
    return int.from_bytes(image.read(symbol, 8), "little")

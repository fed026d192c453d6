# SPDX-License-Identifier: GPL-2.0-or-later
"""Where x86-64 Linux lies in its address space, with four levels of page tables as with five."""

from __future__ import annotations

from typing import Final

__all__ = ["KERNEL_HALF", "KERNEL_IMAGE", "KERNEL_MAP"]

#: The upper half, which is the kernel's (linux 7.3.4 Documentation/arch/x86/x86_64/mm.rst).
KERNEL_HALF: Final = range(0xFFFF_8000_0000_0000, 1 << 64)
#: ``__START_KERNEL_map``: where Linux maps physical address 0 of its own image
#: (arch/x86/include/asm/page_64_types.h, unchanged from 5.10 to 7.3).
KERNEL_MAP: Final = 0xFFFF_FFFF_8000_0000
#: Where an image is in it, at the most: ``KERNEL_IMAGE_SIZE`` with KASLR (same file).
KERNEL_IMAGE: Final = range(KERNEL_MAP, KERNEL_MAP + (1 << 30))

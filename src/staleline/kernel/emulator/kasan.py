# SPDX-License-Identifier: GPL-2.0-or-later
"""KASAN's shadow: one byte for each eight of the kernel's, zero where all eight may be accessed.

Code built with CONFIG_KASAN looks at it before it accesses memory, and marks there what of its
stack frame it may not. The offset is the only one that arch/x86/Kconfig has
(KASAN_SHADOW_OFFSET, 5.10 to 7.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from staleline.kernel.image.symbols import SymbolTable

__all__ = ["SHADOW", "SHADOW_SCALE", "has_shadow", "shadow_of", "shadowed_by"]

_OFFSET: Final = 0xDFFF_FC00_0000_0000
SHADOW_SCALE: Final = 8
#: With four levels of page tables; with five the shadow begins lower, but so does the direct map,
#: which image files have where it is with four.
_KERNEL_HALF: Final = range(0xFFFF_8000_0000_0000, 1 << 64)
#: Of all that a kernel can address.
SHADOW: Final = range(
    _KERNEL_HALF.start // SHADOW_SCALE + _OFFSET, _KERNEL_HALF.stop // SHADOW_SCALE + _OFFSET
)
#: arch/x86/mm/kasan_init_64.c; Debian's kernels have neither.
_SET_UP: Final = ("kasan_early_init", "kasan_init")


def has_shadow(symbols: SymbolTable) -> bool:
    """Was the kernel built with CONFIG_KASAN?"""
    return any(name in symbols for name in _SET_UP)


def shadow_of(address: int) -> int:
    """Where the byte for an address is."""
    return address // SHADOW_SCALE + _OFFSET


def shadowed_by(shadow: int) -> int:
    """The first of the addresses that a byte of the shadow is for."""
    return (shadow - _OFFSET) * SHADOW_SCALE

# SPDX-License-Identifier: GPL-2.0-or-later
"""KASAN's shadow: one byte for each eight of the kernel's, zero where all eight may be accessed.

Code built with CONFIG_KASAN looks at it before it accesses memory, and marks there what of its
stack frame it may not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.kernel.emulator.layout import SHADOW_OFFSET, SHADOW_SCALE

if TYPE_CHECKING:
    from staleline.kernel.image.symbols import SymbolTable

__all__ = ["has_shadow", "shadow_of", "shadowed_by"]

#: arch/x86/mm/kasan_init_64.c; Debian's kernels have neither.
_SET_UP: Final = ("kasan_early_init", "kasan_init")


def has_shadow(symbols: SymbolTable) -> bool:
    """Was the kernel built with CONFIG_KASAN?"""
    return any(name in symbols for name in _SET_UP)  # either may lie inside its caller


def shadow_of(address: int) -> int:
    """Where the byte for an address is."""
    return address // SHADOW_SCALE + SHADOW_OFFSET


def shadowed_by(shadow: int) -> int:
    """The first of the addresses that a byte of the shadow is for."""
    return (shadow - SHADOW_OFFSET) * SHADOW_SCALE

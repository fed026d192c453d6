# SPDX-License-Identifier: GPL-2.0-or-later
"""Let an engine address a machine's memory, and say what it did that it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import unicorn

from staleline.kernel.emulator.kasan import SHADOW
from staleline.kernel.emulator.memory import PAGE

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory

__all__ = ["bad_access", "map_memory", "map_shadow"]

_READ_ONLY: Final = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
_BAD: Final = {
    unicorn.UC_MEM_READ_UNMAPPED: "read of unmapped address",
    unicorn.UC_MEM_WRITE_UNMAPPED: "write to unmapped address",
    unicorn.UC_MEM_FETCH_UNMAPPED: "jump to unmapped address",
    unicorn.UC_MEM_WRITE_PROT: "write to the kernel's code at",
}


def map_memory(engine: unicorn.Uc, memory: MachineMemory) -> None:
    """Map all of it, the kernel's code read-only.

    Translated code outlives a reset of the image, so changed code would as well.
    """
    for address, region, offset in memory.windows():
        host = region.host_address + offset
        engine.mem_map_ptr(address, len(region) - offset, unicorn.UC_PROT_ALL, host)
    if memory.text:
        engine.mem_protect(memory.text.start, len(memory.text), _READ_ONLY)


def map_shadow(engine: unicorn.Uc, access: int, address: int) -> bool:
    """Map a page of KASAN's shadow that code reads; False if it does something else.

    It is zero and stays so, as ``kasan_early_shadow_page`` is (mm/kasan/init.c): of what the
    machine does not have, the access itself fails, which comes next.
    """
    if access != unicorn.UC_MEM_READ_UNMAPPED or address not in SHADOW:
        return False
    engine.mem_map(address & -PAGE, PAGE, unicorn.UC_PROT_READ)
    return True


def bad_access(access: int, address: int) -> str:
    """An access that Unicorn refused, as text for reasons."""
    return f"{_BAD.get(access, 'access to')} {address:#x}"

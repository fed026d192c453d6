# SPDX-License-Identifier: GPL-2.0-or-later
"""Let an engine address a machine's memory, and say what it did that it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import unicorn

if TYPE_CHECKING:
    from staleline.kernel.machine_memory import MachineMemory

__all__ = ["bad_access", "map_memory"]

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


def bad_access(access: int, address: int) -> str:
    """An access that Unicorn refused, as text for reasons."""
    return f"{_BAD.get(access, 'access to')} {address:#x}"

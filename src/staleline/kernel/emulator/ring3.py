# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulator's own pages, and the way into ring 3 with I/O privileges."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from unicorn import x86_const as x86

from staleline.kernel.emulator.memory import PAGE, MachineMemory

if TYPE_CHECKING:
    import unicorn

__all__ = [
    "ENTRY_GATE",
    "FLAGS",
    "KERNEL_CODE",
    "KERNEL_DATA",
    "RETURN_GATE",
    "STACK_SIZE",
    "STACK_TOP",
    "enter_ring3",
    "write_pages",
]

#: Physical addresses, clear of those in `kernel.boot.startup` and `kernel.sites.sites`.
_GDT: Final = 0x1000
_GATES: Final = 0x2000
#: A function that returns, and one that jumps to the next kernel, meets a HLT; around them
#: is nothing but INT3, so that code running wild does not slide into one.
RETURN_GATE: Final = _GATES + 0x400
ENTRY_GATE: Final = _GATES + 0x800
_HLT: Final = b"\xf4"
_INT3: Final = b"\xcc"
#: Of CPU 0; each CPU has a stack of its own.
STACK_TOP: Final = 0x3_0000
STACK_SIZE: Final = 0x1_0000

#: Selectors of the kernel's segments.
KERNEL_CODE: Final = 0x10  # __KERNEL_CS, in ring 3 here
KERNEL_DATA: Final = 0x18  # __KERNEL_DS
FLAGS: Final = 0x3002  # IOPL 3, interrupts off
_CR4_TSD: Final = 1 << 2
_IRETQ: Final = b"\x48\xcf"


def write_pages(memory: MachineMemory) -> None:
    """The descriptor table and the gates."""
    memory.write(_GDT, _descriptors())
    memory.write(_GATES, _INT3 * PAGE)
    memory.write(RETURN_GATE, _HLT)
    memory.write(ENTRY_GATE, _HLT)


def enter_ring3(engine: unicorn.Uc, memory: MachineMemory) -> unicorn.unicorn.UcContext:
    """Execute an IRETQ to ring 3 and keep that state: Unicorn offers no other way."""
    engine.reg_write(x86.UC_X86_REG_GDTR, (0, memory.direct(_GDT), 0x2F, 0))
    engine.reg_write(x86.UC_X86_REG_CR4, engine.reg_read(x86.UC_X86_REG_CR4) | _CR4_TSD)
    frame, code, target = map(memory.direct, (STACK_TOP, _GATES, RETURN_GATE))
    write_pages(memory)
    memory.write(code, _IRETQ)
    memory.write(
        frame,
        struct.pack("<5Q", target, KERNEL_CODE | 3, FLAGS, frame, KERNEL_DATA | 3),
    )
    engine.reg_write(x86.UC_X86_REG_RSP, frame)
    engine.emu_start(code, target)
    write_pages(memory)
    engine.ctl_remove_cache(code, code + PAGE)
    return engine.context_save()


def _descriptors() -> bytes:
    """A GDT of flat ring-3 segments under the kernel's selectors."""
    code, data = 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF
    return struct.pack("<6Q", 0, code, code, data, code, data)

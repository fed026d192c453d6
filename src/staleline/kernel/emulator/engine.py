# SPDX-License-Identifier: GPL-2.0-or-later
"""What an engine begins with: a machine's memory, pages of its own, and the way into ring 3."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Final

import unicorn
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

from staleline.kernel.emulator.layout import (
    DESCRIPTORS,
    ENTRY_GATE,
    GATES,
    PAGE,
    RETURN_GATE,
    stack_of,
)
from staleline.kernel.opcodes import HLT

if TYPE_CHECKING:
    from collections.abc import Callable

    from staleline.kernel.emulator.memory import MachineMemory

__all__ = [
    "FLAGS",
    "KERNEL_CODE",
    "KERNEL_DATA",
    "enter_ring3",
    "forget",
    "map_memory",
    "write_pages",
]

_READ_ONLY: Final = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
_INT3: Final = b"\xcc"

#: Selectors of the kernel's segments.
KERNEL_CODE: Final = 0x10  # __KERNEL_CS, in ring 3 here
KERNEL_DATA: Final = 0x18  # __KERNEL_DS
FLAGS: Final = 0x3002  # IOPL 3, interrupts off
_CR4_TSD: Final = 1 << 2
#: UC_CTL_WRITE(UC_CTL_TB_REMOVE_CACHE, 2) of unicorn/unicorn.h, 2.1.4.
_REMOVE_TRANSLATIONS: Final = (
    unicorn.UC_CTL_IO_WRITE << 30 | 2 << 26 | unicorn.UC_CTL_TB_REMOVE_CACHE
)
_IRETQ: Final = b"\x48\xcf"
#: In the descriptor table; the last one says which CPU it is.
_DESCRIPTORS: Final = 16


def map_memory(engine: unicorn.Uc, memory: MachineMemory) -> None:
    """Map all of it, the kernel's code read-only."""
    for address, region, offset in memory.windows():
        host = region.host_address + offset
        engine.mem_map_ptr(address, len(region) - offset, unicorn.UC_PROT_ALL, host)
    # Translated code outlives a reset of the image, so changed code would as well.
    if memory.text:
        engine.mem_protect(memory.text.start, len(memory.text), _READ_ONLY)


def write_pages(memory: MachineMemory) -> None:
    """The descriptor table and the gates."""
    memory.write(DESCRIPTORS.start, _descriptors())
    memory.write(GATES.start, _INT3 * PAGE)
    memory.write(RETURN_GATE, HLT)
    memory.write(ENTRY_GATE, HLT)


def enter_ring3(engine: unicorn.Uc, memory: MachineMemory) -> Callable[[], None]:
    """Execute an IRETQ to ring 3, for Unicorn offers no other way.

    Returns:
        Puts the engine back into the state behind it.
    """
    descriptors = memory.direct(DESCRIPTORS.start)
    engine.reg_write(x86.UC_X86_REG_GDTR, (0, descriptors, 8 * _DESCRIPTORS - 1, 0))
    engine.reg_write(x86.UC_X86_REG_CR4, engine.reg_read(x86.UC_X86_REG_CR4) | _CR4_TSD)
    frame, code, target = map(memory.direct, (stack_of(0).stop, GATES.start, RETURN_GATE))
    write_pages(memory)
    memory.write(code, _IRETQ)
    memory.write(
        frame,
        struct.pack("<5Q", target, KERNEL_CODE | 3, FLAGS, frame, KERNEL_DATA | 3),
    )
    engine.reg_write(x86.UC_X86_REG_RSP, frame)
    engine.emu_start(code, target)
    memory.was_run_in(1)
    write_pages(memory)
    engine.ctl_remove_cache(code, code + PAGE)
    context = engine.context_save()

    def enter() -> None:
        engine.context_restore(context)

    return enter


def forget(engine: unicorn.Uc, start: int, end: int) -> None:
    """Drop translations of code in between; a tenth of what Unicorn's Python binding takes."""
    status = uclib.uc_ctl(
        engine._uch, _REMOVE_TRANSLATIONS, ctypes.c_uint64(start), ctypes.c_uint64(end)
    )
    if status:
        raise unicorn.UcError(status)


def _descriptors() -> bytes:
    """A GDT of flat ring-3 segments under the kernel's selectors."""
    # Present, DPL 3, code (execute and read, long mode) and data (read and write): AMD APM volume
    # 2, 4.8.
    code, data_segment = 0x00AF_FB00_0000_FFFF, 0x00CF_F300_0000_FFFF
    descriptors = struct.pack("<6Q", 0, code, code, data_segment, code, data_segment)
    return descriptors.ljust(8 * _DESCRIPTORS, b"\0")


def tell_number(memory: MachineMemory, cpu: int) -> None:
    """Let a CPU find its number, where entry code looks for it with LSL."""
    # It is the limit of a data segment (arch/x86/include/asm/segment.h, GDT_ENTRY_CPUNODE and
    # vdso_encode_cpunode(), linux 5.10.262 to 7.3.4).
    last = DESCRIPTORS.start + 8 * (_DESCRIPTORS - 1)
    memory.write_int(memory.direct(last), 0x0040_F300_0000_0000 | cpu, 8)

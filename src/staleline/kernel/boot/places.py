# SPDX-License-Identifier: GPL-2.0-or-later
"""Names for addresses of the emulated machine: functions, variables, per-CPU variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.hardware import MASK_64
from staleline.kernel.boot.percpu import PerCpu
from staleline.kernel.emulator.kasan import shadowed_by
from staleline.kernel.emulator.layout import CONTROL_PAGES, PAGE, SHADOW, SWAP_PAGE, stack_of
from staleline.printable import printable

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.image.image import KernelImage

__all__ = ["Places"]

#: Where relocate_kernel() is copied from: the first since 6.14 (commit 207bdf7f72ae).
_RELOCATED: Final = ("__relocate_kernel_start", "relocate_kernel")
_ENOUGH: Final = 16  # bytes to know the copy by


class Places:
    """Names what is at an address while two CPUs run."""

    def __init__(self, image: KernelImage, memory: MachineMemory, cpus: int) -> None:
        self._symbols = image.symbols
        self._areas = [PerCpu(image, memory).offset(cpu) for cpu in range(cpus)]
        self._memory = memory
        self._per_cpu = range(
            image.symbols.only_address("__per_cpu_start") or 0,
            image.symbols.only_address("__per_cpu_end") or 0,
        )

    def code(self, address: int) -> str:
        """Function and offset; of the control page, those of the code copied there."""
        return self._enclosing(self.linked(address))

    def variable(self, address: int) -> str | None:
        """Variable and offset, or None if it is none: stack, page tables, the kimage."""
        for offset in self._areas:
            if (linked := (address - offset) & MASK_64) in self._per_cpu:
                return f"per-CPU {self._enclosing(linked)}"
        if self._symbols.enclosing(address) is None or address < self._symbols_start:
            return None
        return self._enclosing(address)

    def line(self, address: int, physical: int) -> str:
        """What lies in memory at an address: a variable, a stack, a page of the handover."""
        for cpu in range(len(self._areas)):
            if physical in stack_of(cpu):
                return f"the stack of CPU {cpu}"
        if physical in CONTROL_PAGES:
            return "the control page"
        if physical in SWAP_PAGE:
            return "the swap page"
        if self._memory.has_shadow and address in SHADOW:
            shadowed = shadowed_by(address)
            return f"the shadow of {self.line(shadowed, self._memory.physical(shadowed) or 0)}"
        return self.variable(address) or f"physical address {physical:#x}"

    @property
    def _symbols_start(self) -> int:
        return self._symbols.only_address("_text") or 0

    def linked(self, address: int) -> int:
        """Where the code at an address comes from: in the control pages it is a copy."""
        for pages in (CONTROL_PAGES.start, self._memory.direct(CONTROL_PAGES.start)):
            if 0 <= address - pages < len(CONTROL_PAGES):
                start = next(filter(None, map(self._symbols.only_address, _RELOCATED)), pages)
                return start + address - pages - self._copied_to(start)
        return address

    def _copied_to(self, start: int) -> int:
        """Offset of the copy: the second page in 5.10, the first in later kernels."""
        code = self._memory.read(start, _ENOUGH)
        return PAGE if self._memory.read(CONTROL_PAGES.start + PAGE, _ENOUGH) == code else 0

    def _enclosing(self, address: int) -> str:
        return printable(self._symbols.place(address))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Where kernels executed something, by the names of their own images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from staleline.kernel.addresses import KERNEL_MAP
from staleline.kernel.image.image import KernelImage
from staleline.simulation.observation import LineAccess, SeenRun

__all__ = ["NamedPlaces", "slide_of"]

_KERNEL_HALF: Final = 1 << 63
_LOW_MEMORY: Final = 1 << 20
_PAGE: Final = 0xFFF
_SYSTEM_CALLS: Final = "entry_SYSCALL_64"
_RELOCATION: Final = ("__relocate_kernel_start", "relocate_kernel")


@dataclass(frozen=True, slots=True)
class NamedPlaces:
    """Names for addresses of two kernels.

    Attributes:
        kernel: The first one.
        following: The next one; None where a probe is in its place.
        slide: Of the first one's addresses (KASLR).
    """

    kernel: KernelImage
    following: KernelImage | None
    slide: int = 0

    def __call__(self, store: LineAccess, *, before_handover: bool = False) -> str:
        """A function and offset, or what else is known of a place."""
        if store.mode == "device":
            return "a device"
        if store.mode == "user":
            return f"user space, {store.rip:#x}"
        if store.rip >= _KERNEL_HALF:
            return self._named(store)
        # From the copy of relocate_kernel() on, the machine counts what runs as the next kernel's.
        if before_handover and store.kernel == 2:
            return self._copied(store.rip)
        if store.rip < _LOW_MEMORY:
            return f"trampoline of starting CPUs, {store.rip:#x}"
        if self.following is None and store.kernel == 2:
            return f"the probe, {store.rip:#x}"
        return f"startup code, {store.rip:#x}"

    def _named(self, store: LineAccess) -> str:
        image, slide = (self.kernel, self.slide) if store.kernel == 1 else (self.following, 0)
        enclosing = image.symbols.enclosing(store.rip - slide) if image else None
        if enclosing is None or store.rip < KERNEL_MAP:
            return f"{store.rip:#x}"
        name, offset = enclosing
        return f"{name}+{offset:#x}"

    def _copied(self, rip: int) -> str:
        """Code of relocate_kernel() is executed as a copy, in a page that only the kernel knows."""
        symbols = self.kernel.symbols
        starts = (symbols.only_address(name) for name in _RELOCATION)
        start = next((address for address in starts if address is not None), None)
        enclosing = None if start is None else symbols.enclosing(start + (rip & _PAGE))
        if enclosing is None:
            return f"the copy of relocate_kernel, {rip:#x}"
        return f"{enclosing[0]}+{enclosing[1]:#x}, copied to {rip:#x}"


def slide_of(kernel: KernelImage, seen: SeenRun) -> int:
    """How far KASLR has moved a kernel, from where its entry of system calls is."""
    linked = kernel.symbols.only_address(_SYSTEM_CALLS)
    entries = {handover.lstar for handover in seen.handovers if handover.lstar}
    # Two different ones are two kernels': none tells of the first.
    if linked is None or len(entries) != 1:
        return 0
    slide = entries.pop() - linked
    # Kernels are moved by whole pages; anything else is another entry than that.
    return slide if slide % (1 << 12) == 0 else 0

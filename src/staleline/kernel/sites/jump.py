# SPDX-License-Identifier: GPL-2.0-or-later
"""The jumping CPU on its way through ``machine_kexec()``, and the ``struct kimage`` it goes by.

That says whether the image was loaded for a kexec jump.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.boot.pagestructures import page_structure
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.execution.end import EndKind
from staleline.kernel.emulator.layout import CONTROL_PAGES, KIMAGE, SWAP_PAGE
from staleline.kernel.image.symbols import required_address
from staleline.kernel.sites.afterflush import stores_before_jump
from staleline.kernel.sites.ending import site_decision
from staleline.kernel.sites.stoppath import wakes

if TYPE_CHECKING:
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage

__all__ = ["preserve_context_bits", "run_relocate_kernel"]

# struct kimage, include/linux/kexec.h, 5.10 to 7.3: these members come first.
_KIMAGE_HEAD: Final = 0
_KIMAGE_START: Final = 24
_KIMAGE_CONTROL_CODE_PAGE: Final = 32
_KIMAGE_SWAP_PAGE: Final = 40
_IND_DONE: Final = 4
#: Behind ``control_page``; 128 bytes higher since ``segment_cma[16]`` was added (6.17):
#: include/linux/kexec.h, 5.10.262 to 7.3.4.
_FLAGS: Final = (0x278, 0x2F8)
_PRESERVE_CONTEXT: Final = 1 << 1


def _prepare_kexec_jump(image: KernelImage, memory: MachineMemory) -> None:
    """Set ``preserve_context`` of the image that is loaded.

    The image is then called with its swap page as its stack.

    Raises:
        DerivationError: ``machine_kexec()`` looks at neither known offset, or at both.
    """
    flags = _flags(image)
    if flags is None:
        raise DerivationError("where struct kimage has preserve_context is not known")
    memory.write_int(flags, _PRESERVE_CONTEXT, 1)


def preserve_context_bits(image: KernelImage, memory: MachineMemory, cell: tuple[int, int]) -> int:
    """Which bits of what was read there, address and size, say that the image is for a jump back.

    That is a listed fact, as is all of a register that the facts set.
    """
    flags = _flags(image)
    if flags is None:
        return 0
    address, size = cell
    places = [at for at in (flags, memory.direct(flags)) if address <= at < address + size]
    return _PRESERVE_CONTEXT << 8 * (places[0] - address) if places else 0


def _flags(image: KernelImage) -> int | None:
    """Physical address of the byte; None if ``machine_kexec()`` tells neither or both places."""
    start = required_address(image.symbols, "machine_kexec")
    code = image.read(start, image.symbols.size_of("machine_kexec") or 0)
    # It tests the bit, so its code names the offset.
    offsets = [offset for offset in _FLAGS if offset.to_bytes(4, "little") in code]
    return KIMAGE.start + offsets[0] if len(offsets) == 1 else None


def run_relocate_kernel(
    emulated: EmulatedMachine,
    cpu: LogicalCpu,
    *,
    preserve_context: bool = False,
) -> SiteDecision:
    """Let the jumping CPU go through ``machine_kexec()`` into the next kernel."""
    _write_kimage(emulated.image, emulated.memory, emulated.emulator.next_kernel_entry)
    if preserve_context:
        _prepare_kexec_jump(emulated.image, emulated.memory)
    if "__relocate_kernel_start" in emulated.image.symbols:
        _prepare_control_page(emulated.image, emulated.memory)
    # What another run had copied there may have been patched otherwise; it runs through both
    # aliases.
    emulated.emulator.forget_code(CONTROL_PAGES.start, len(CONTROL_PAGES))
    emulated.emulator.forget_code(emulated.memory.direct(CONTROL_PAGES.start), len(CONTROL_PAGES))
    kimage = emulated.memory.direct(KIMAGE.start)
    before, told = len(cpu.flushes), len(cpu.commands)
    end = emulated.emulator.run(
        required_address(emulated.image.symbols, "machine_kexec"), (kimage,), cpu=cpu
    )
    flushes = len(cpu.flushes) - before
    woken = wakes(emulated, cpu, told)
    if woken is not None:
        return SiteDecision(None, woken, astray=True)
    decision = site_decision(emulated.emulator, end, EndKind.HANDED_OVER, flushes=flushes)
    if not decision.flushes or not end.stores:
        return decision
    return replace(decision, stores=stores_before_jump(emulated, end.stores))


def _write_kimage(image: KernelImage, memory: MachineMemory, entry: int) -> None:
    """The least a ``struct kimage`` needs: nothing to copy, one control and swap page, an entry."""
    memory.write(KIMAGE.start, bytes(len(KIMAGE)))
    memory.write_int(KIMAGE.start + _KIMAGE_HEAD, _IND_DONE, 8)
    memory.write_int(KIMAGE.start + _KIMAGE_START, entry, 8)
    for member, page in (
        (_KIMAGE_CONTROL_CODE_PAGE, CONTROL_PAGES.start),
        (_KIMAGE_SWAP_PAGE, SWAP_PAGE.start),
    ):
        memory.write_int(KIMAGE.start + member, page_structure(image, memory, page), 8)


def _prepare_control_page(image: KernelImage, memory: MachineMemory) -> None:
    """What ``machine_kexec_prepare()`` does since 6.14 (commit 207bdf7f72ae)."""
    start = required_address(image.symbols, "__relocate_kernel_start")
    size = required_address(image.symbols, "__relocate_kernel_end") - start
    if not 0 < size <= len(CONTROL_PAGES):
        raise DerivationError(f"relocate_kernel of {size:#x} bytes")
    memory.write_int(
        required_address(image.symbols, "kexec_va_control_page"),
        memory.direct(CONTROL_PAGES.start),
        8,
    )
    # For every kexec, jump or not (arch/x86/kernel/machine_kexec_64.c:358, 7.3.4); up to 6.13
    # ``machine_kexec()`` says it.
    swap = image.symbols.address("kexec_pa_swap_page")
    if swap is not None:
        memory.write_int(swap, SWAP_PAGE.start, 8)
    memory.write(CONTROL_PAGES.start, memory.read(start, size))

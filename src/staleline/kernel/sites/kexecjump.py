# SPDX-License-Identifier: GPL-2.0-or-later
"""Where ``struct kimage`` says that its image was loaded for a kexec jump.

``preserve_context`` is bit 1 of the flags behind ``control_page``, which lie 128 bytes
higher since ``segment_cma[16]`` was added (6.17): include/linux/kexec.h, 5.10.262 to 7.3.4.
``machine_kexec()`` tests it, so its code names the offset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.layout import KIMAGE
from staleline.kernel.image.symbols import required_address

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.image.image import KernelImage

__all__ = ["prepare_kexec_jump", "preserve_context_bits"]

_FLAGS: Final = (0x278, 0x2F8)
_PRESERVE_CONTEXT: Final = 1 << 1


def prepare_kexec_jump(image: KernelImage, memory: MachineMemory) -> None:
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
    found = [offset for offset in _FLAGS if offset.to_bytes(4, "little") in code]
    return KIMAGE.start + found[0] if len(found) == 1 else None

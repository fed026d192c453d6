# SPDX-License-Identifier: GPL-2.0-or-later
"""Where ``struct kimage`` says that its image was loaded for a kexec jump.

``preserve_context`` is bit 1 of the flags behind ``control_page``, which lie 128 bytes
higher since ``segment_cma[16]`` was added (6.17): include/linux/kexec.h, 5.10.262 to 7.3.4.
``machine_kexec()`` tests it, so its code names the offset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.layout import KIMAGE, SWAP_PAGE
from staleline.kernel.image.symbols import required_address

if TYPE_CHECKING:
    from staleline.kernel.emulator.memory import MachineMemory
    from staleline.kernel.image.image import KernelImage

__all__ = ["prepare_kexec_jump"]

_FLAGS: Final = (0x278, 0x2F8)
_PRESERVE_CONTEXT: Final = 1 << 1


def prepare_kexec_jump(image: KernelImage, memory: MachineMemory) -> None:
    """Set ``preserve_context`` of the ``struct kimage``.

    The image is then called with its swap page as its stack: ``machine_kexec()`` tells where
    it is up to 6.13, ``machine_kexec_prepare()`` from 6.14 (arch/x86/kernel/
    machine_kexec_64.c:311, 7.3.4).

    Raises:
        DerivationError: ``machine_kexec()`` looks at neither known offset, or at both.
    """
    start = required_address(image.symbols, "machine_kexec")
    code = image.read(start, image.symbols.size_of("machine_kexec") or 0)
    found = [offset for offset in _FLAGS if offset.to_bytes(4, "little") in code]
    if len(found) != 1:
        raise DerivationError("where struct kimage has preserve_context is not known")
    memory.write_int(KIMAGE.start + found[0], _PRESERVE_CONTEXT, 1)
    variable = image.symbols.address("kexec_pa_swap_page")
    if variable is not None:
        memory.write_int(variable, SWAP_PAGE.start, 8)

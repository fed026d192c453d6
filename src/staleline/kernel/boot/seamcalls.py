# SPDX-License-Identifier: GPL-2.0-or-later
"""Let a CPU make a SEAMCALL through the kernel's own code, as on a host that uses TDX.

Since 6.18 (commit 10df8607bf1a) every wrapper of SEAMCALL marks its CPU's caches
(``__seamcall_dirty_cache()``, linux 7.3.4 arch/x86/virt/vmx/tdx/seamcall_internal.h:21).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.emulator import Emulator
from staleline.kernel.emulator.execution.end import EndKind
from staleline.kernel.image.symbols import required_address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage

__all__ = ["can_seamcall", "make_seamcalls"]

#: In every kernel that can make SEAMCALLs (linux 6.12.117 and 7.3.4
#: arch/x86/virt/vmx/tdx/seamcall.S), built with CONFIG_INTEL_TDX_HOST only.
_SEAMCALL: Final = "__seamcall"
#: Functions that make a SEAMCALL and take no pointer, the first that an image has:
#: ``u64 tdh_phymem_cache_wb(bool resume)`` (7.3.4 arch/x86/virt/vmx/tdx/tdx.c), and
#: ``int tdx_cpu_enable(void)`` (6.12.117), which wants a host whose firmware enabled TDX.
_WRAPPERS: Final = ("tdh_phymem_cache_wb", "tdx_cpu_enable")


def can_seamcall(image: KernelImage) -> bool:
    """Does the image contain the code to use TDX as a host?"""
    return _SEAMCALL in image.symbols


def make_seamcalls(image: KernelImage, emulator: Emulator, cpus: Iterable[LogicalCpu]) -> None:
    """One on each CPU with a TDX module, if the kernel can; it is answered with success.

    Raises:
        DerivationError: The wrapper did not return, or did not get to the instruction.
    """
    with_module = [cpu for cpu in cpus if cpu.seam and can_seamcall(image)]
    for cpu in with_module:
        wrapper = next((name for name in _WRAPPERS if name in image.symbols), _WRAPPERS[0])
        before = cpu.seamcalls
        end = emulator.run(required_address(image.symbols, wrapper), (0,), cpu=cpu)
        if end.kind is not EndKind.RETURNED:
            what = emulator.told(end)
            raise DerivationError(f"{wrapper}() on CPU {cpu.number} did not return: {what}")
        if cpu.seamcalls == before:
            raise DerivationError(f"{wrapper}() on CPU {cpu.number} made no SEAMCALL")

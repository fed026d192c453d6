# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel was built without, as far as its functions tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.kernel.derivation import DerivationError

if TYPE_CHECKING:
    from staleline.kernel.image.symbols import SymbolTable

__all__ = ["is_for_one_cpu", "require_kexec_of_several_cpus"]

#: kernel/kexec_core.c, arch/x86/kernel/machine_kexec_64.c and relocate_kernel_64.S: built for
#: CONFIG_KEXEC_CORE, which CONFIG_KEXEC and CONFIG_KEXEC_FILE select (linux 5.10 to 7.3).
_OF_KEXEC: Final = (
    "kernel_kexec",
    "kimage_free",
    "machine_kexec",
    "machine_kexec_prepare",
    "relocate_kernel",
)
#: arch/x86/kernel/smp.c and smpboot.c: built for CONFIG_SMP (linux 5.10 to 7.3).
_OF_SMP: Final = ("native_stop_other_cpus", "smp_ops", "start_secondary", "native_kick_ap")


def require_kexec_of_several_cpus(symbols: SymbolTable) -> None:
    """Such a kernel is what can be read.

    Raises:
        DerivationError: It is none.
    """
    # All of them: one alone may be missing because a linker put it into its caller.
    if not any(name in symbols for name in _OF_KEXEC):
        raise DerivationError(
            "this kernel was built without kexec (CONFIG_KEXEC and CONFIG_KEXEC_FILE are off), so "
            "it hands over to no other"
        )
    if is_for_one_cpu(symbols):
        raise DerivationError(
            "this kernel was built for one CPU (CONFIG_SMP is off): it has no secondaries, and "
            "what it does on the jumping CPU is read from kernels with CONFIG_SMP only"
        )


def is_for_one_cpu(symbols: SymbolTable) -> bool:
    """CONFIG_SMP is off."""
    return not any(name in symbols for name in _OF_SMP)

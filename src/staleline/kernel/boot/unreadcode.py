# SPDX-License-Identifier: GPL-2.0-or-later
"""What decides on a guest's way into the next kernel and is in no code that is run here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.hypervisorhooks import hypervisor_of

if TYPE_CHECKING:
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage

__all__ = ["unread_code"]

#: The kernel's structure of a hypervisor -> symbols that an image has with such code, and what
#: is not read then.
_UNREAD: Final = {
    "x86_hyper_ms_hyperv": (
        # hv_machine_shutdown() and hv_machine_crash_shutdown() call it first (linux 7.3.4
        # arch/x86/kernel/cpu/mshyperv.c:244,267).
        (
            "hv_setup_kexec_handler",
            "what the module hv_vmbus registers by hv_setup_kexec_handler() and "
            "hv_setup_crash_handler() is run before the others are stopped, and is not read",
        ),
        # Where the hypervisor recommends it (linux 7.3.4 arch/x86/hyperv/hv_apic.c:302).
        (
            "hv_apic_init",
            "hv_apic_init() may have interrupts sent by hypercalls of Hyper-V, which are not "
            "followed",
        ),
    ),
    "x86_hyper_xen_hvm": (
        # Its operations xen_start_kernel() puts in place of all (arch/x86/xen/enlighten_pv.c,
        # smp_pv.c).
        (
            "x86_hyper_xen_pv",
            "a PV domain of Xen, which CPUID does not tell from an HVM domain, stops by "
            "xen_smp_ops and hypercalls, which are not followed",
        ),
    ),
}


def unread_code(image: KernelImage, cpu: LogicalCpu) -> str | None:
    """Why nothing is said of how an image stops and jumps on a CPU; None if nothing is missing."""
    unread = _UNREAD.get(hypervisor_of(cpu) or "", ())
    reasons = [reason for symbol, reason in unread if symbol in image.symbols]
    return "; ".join(reasons) or None

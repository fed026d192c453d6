# SPDX-License-Identifier: GPL-2.0-or-later
"""What the source of each series says its two sites do, as plain Python.

Line numbers are those of Debian's linux-source packages 5.10.262, 6.1.192, 6.12.117 and
7.3.4.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from staleline.vocabulary import ReportOrder
from tests.kernel.machines import Facts

__all__ = ["ERAS", "ERA_OF_SERIES", "Era", "mask", "sme_active"]

#: One series of each era of the stop path, for tests that take long; `make test` takes the two in
#: which most differs, `make every-kernel` all.
ERAS = ["5.10", "6.12", "6.18", "7"] if "EVERY_KERNEL" in os.environ else ["6.12", "7"]


def mask(facts: Facts) -> bool:
    """``sme_me_mask`` becomes non-zero.

    ``sme_enable()``: arch/x86/mm/mem_encrypt_identity.c:496 (5.10), :497 (6.1), :493 (6.12);
    arch/x86/boot/startup/sme.c:490 (7.3). The vendor is not looked at.
    """
    if not (facts.leaf and (facts.sme or facts.sev)):
        return False
    return facts.sev_status or (facts.mem_encrypt and not facts.hypervisor and facts.enabled)


def sme_active(facts: Facts) -> bool:
    """``sme_active()``, or CC_ATTR_HOST_MEM_ENCRYPT.

    arch/x86/mm/mem_encrypt.c:346 (5.10); arch/x86/coco/core.c:55 (6.1), :80 (6.12).
    """
    return mask(facts) and not facts.sev_status


def boot_cpu_has_sme(facts: Facts) -> bool:
    """``boot_cpu_has(X86_FEATURE_SME)``: arch/x86/kernel/process.c:753 (5.10).

    The flag is CPUID's; ``early_detect_mem_encrypt()`` (arch/x86/kernel/cpu/amd.c:784)
    clears it where SYSCFG[23] is 0. arch/x86/kernel/cpu/hygon.c has no such function.
    """
    cleared = facts.vendor == "AuthenticAMD" and not facts.enabled
    return facts.leaf and facts.sme and not cleared


def sme_in_cpuid(facts: Facts) -> bool:
    """CPUID itself: arch/x86/kernel/process.c:791 (6.1), :839 (6.12)."""
    return facts.leaf and facts.sme


def cache_state_incoherent(facts: Facts) -> bool:
    """The per-CPU flag that only arch/x86/kernel/cpu/amd.c:572 (7.3) sets.

    Read at arch/x86/kernel/process.c:841 and machine_kexec_64.c:433 (7.3).
    """
    return facts.vendor == "AuthenticAMD" and facts.leaf and facts.sme


@dataclass(frozen=True)
class Era:
    """One way to decide, and the order of the stop protocol."""

    stop_this_cpu: Callable[[Facts], bool]
    relocate_kernel: Callable[[Facts], bool]
    reported_stopped: ReportOrder


#: Commit 1f5e7eb7868e (6.5, and 6.1.y) made a secondary report itself after its flush.
_A = Era(boot_cpu_has_sme, sme_active, ReportOrder.BEFORE_FLUSH)
_B = Era(sme_in_cpuid, sme_active, ReportOrder.AFTER_FLUSH)
_C = Era(cache_state_incoherent, cache_state_incoherent, ReportOrder.AFTER_FLUSH)
ERA_OF_SERIES = {
    "5.10": _A,
    "6.1": _B,
    "6.12": _B,
    "6.16": _B,
    "6.17": _B,
    "6.18": _C,
    "6.19": _C,
    "7.0": _C,
    "7.1": _C,
    "7.2": _C,
    "7": _C,
}

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which facts of a machine cannot hold together, and which do not matter where others hold."""

from __future__ import annotations

from collections.abc import Mapping

from staleline.policy.axioms import EXCLUDED
from staleline.policy.axioms import OF_VENDOR as DECIDED_BY_VENDOR

__all__ = ["EXCLUSIONS", "OF_VENDOR", "POINTLESS"]

#: What the vendor decides.
OF_VENDOR = frozenset(DECIDED_BY_VENDOR)

#: Facts of which no machine shows all. Where all but one hold, the last one does not.
EXCLUSIONS: tuple[Mapping[str, bool], ...] = (
    *EXCLUDED,
    # What is below is asked by no rule, or not by rules alone. SEAMCALLs are made by TDX hosts.
    {"tdx_used": True, "intel": False},
    # Where AMD's and Hygon's CPUs have no leaf 0x8000001F, they answer zeros there.
    {"amd_or_hygon": True, "sme_supported": True, "sme_bit_unchecked": False},
    {"amd_or_hygon": True, "sme_supported": False, "sme_bit_unchecked": True},
    # sme_enable() reads SEV_STATUS only where CPUID shows SME or SEV, but hv_vtom_init() asks for
    # neither (linux 7.3.4 arch/x86/hyperv/ivm.c:857).
    {"sev_guest": True, "sev_supported": False, "isolated": False},
    {"snp_guest": True, "sev_guest": False},
    # KVM starts SEV guests on bare machines, whose firmware honours the C-bit
    # (linux 6.12.118 arch/x86/kvm/svm/sev.c sev_hardware_setup()).
    {"sev_guests_run": True, "sev_supported": False},
    {"sev_guests_run": True, "sme_enabled": False},
    {"sev_guests_run": True, "hypervisor": True},
    # SEAMCALLs are made where firmware gave TDX keys (linux 7.3.4 virt/vmx/tdx/tdx.c tdx_init()).
    {"tdx_used": True, "tdx_host_enabled": False},
    {"tdx_used": True, "hypervisor": True},
    # A SEV guest's two aliases are kept coherent by the same bit as a host's. An SNP guest has
    # to evict lines by itself unless EBX[31] says that it need not
    # (linux 7.3.4 arch/x86/coco/sev/core.c:234), so there both bits are wanted.
    {"sev_guest": True, "snp_guest": False, "coherency_enforced": True}
    | {"guest_aliases_coherent": False},
    {"sev_guest": True, "coherency_enforced": False, "guest_aliases_coherent": True},
    {"snp_guest": True, "coherency_enforced": True, "coherency_sfw_no": True}
    | {"guest_aliases_coherent": False},
)

#: (facts, those that make no difference to anything where they hold): then not tried both ways.
POINTLESS: tuple[tuple[Mapping[str, bool], tuple[str, ...]], ...] = (
    # A guest's CPUs are its hypervisor's. What its registers say of the host's firmware makes no
    # stale line, but a rule may ask for it: that stays open.
    ({"hypervisor": True}, ("offline",)),
    ({"hypervisor": False}, ("guest_flushes", "guest_aliases_coherent")),
    ({"sev_guest": False, "tdx_guest": False}, ("guest_flushes", "guest_aliases_coherent")),
    ({"snp_guest": False}, ("coherency_sfw_no",)),
    # Without a capability there is nothing to enable or to keep coherent.
    ({"sme_supported": False, "sev_supported": False}, ("coherency_enforced",)),
    ({"sev_guests_run": False}, ("guest_keys_snooped",)),
    # Where CPUs keep no aliases coherent, what devices do makes it no worse.
    ({"coherency_enforced": False}, ("guest_keys_snooped",)),
    # One CPU has nobody to stop, and is online itself.
    ({"several_cpus": False}, ("reboot_force", "offline")),
    ({"offline": False}, ("mwait",)),
)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds of every machine, so that rules are compared on machines that can exist only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from staleline.policy.expression import Expression, parse

__all__ = ["EXCLUDED", "OF_VENDOR", "axioms", "encrypts"]

_ENCRYPTS = (
    "(sme_supported or sev_supported) and sme_enabled and mem_encrypt"
    " and not hypervisor and not sev_guest"
)

#: What the vendor decides, by names of its own.
OF_VENDOR: Mapping[str, str] = {
    "amd": 'vendor == "AuthenticAMD"',
    "amd_or_hygon": '(vendor == "AuthenticAMD" or vendor == "HygonGenuine")',
    "intel": 'vendor == "GenuineIntel"',
}

#: Atoms that no machine shows together. The only place where this is said: machines that evidence
#: may describe (`staleline.verdict.machines.exclusions`) and those on which rules are compared are
#: the same, so that no difference is hidden on one that is judged.
EXCLUDED: tuple[Mapping[str, bool], ...] = (
    # SME and SEV exist on AMD's and Hygon's CPUs only; TDX on Intel's only.
    {"sme_supported": True, "amd_or_hygon": False},
    {"sev_supported": True, "amd_or_hygon": False},
    {"sme_enabled": True, "amd_or_hygon": False},
    {"sev_guest": True, "amd_or_hygon": False},
    {"tdx_guest": True, "intel": False},
    {"tdx_host_enabled": True, "intel": False},
    # sme_enable() (linux 6.12.118 arch/x86/mm/mem_encrypt_identity.c): a capability bit, no
    # hypervisor, SYSCFG[23], and no SEV guest.
    {"sme_active": True, "sme_supported": False, "sev_supported": False},
    {"sme_active": True, "hypervisor": True},
    {"sme_active": True, "sme_enabled": False},
    {"sme_active": True, "sev_guest": True},
    # SYSCFG[23] is reserved on a CPU without either; under a hypervisor CPUID may hide them. A
    # guest may read it as set: KVM answers 0 (linux 6.12.118 arch/x86/kvm/x86.c
    # kvm_get_msr_common()), but sme_enable() asks for a hypervisor, as others may emulate it or
    # pass it through (so the comment there). Nor does tdx_init() ask for one before it reads MSR
    # 0x87 (linux 7.3.4 arch/x86/virt/vmx/tdx/tdx.c record_keyid_partitioning()).
    {"sme_enabled": True, "sme_supported": False, "sev_supported": False, "hypervisor": False},
    # A guest is one under a hypervisor, and SEV-ES is SEV that hides the registers too (AMD APM
    # volume 2, 15.34.10, SEV_STATUS).
    {"sev_guest": True, "hypervisor": False},
    {"tdx_guest": True, "hypervisor": False},
    {"sev_es_guest": True, "sev_guest": False},
    # SNP is AMD's and needs SYSCFG[23] (linux 6.12.118 arch/x86/kernel/cpu/amd.c:362).
    {"snp_host": True, "amd": False},
    {"snp_host": True, "sme_enabled": False},
    {"snp_host": True, "sev_supported": False},
)

#: What is true besides of those that a rule tells apart.
_AXIOMS = (
    # A leaf beyond the maximum is not there (Intel SDM and AMD APM, CPUID).
    "max_extended_leaf >= 0x8000001f or (not sme_supported and not sev_supported)",
    # Where the leaf is there, reading it without checking makes no difference.
    "max_extended_leaf < 0x8000001f or not sme_supported or sme_bit_unchecked",
    "max_extended_leaf < 0x8000001f or sme_supported or not sme_bit_unchecked",
    # Derived, not a fact of its own: on every machine it is what sme_enable() makes of the others.
    f"sme_active or not ({_ENCRYPTS})",
    f"not sme_active or ({_ENCRYPTS})",
    # SEV_STATUS is read only where CPUID shows SME or SEV (linux 7.3.4
    # arch/x86/boot/startup/sme.c:529). Guests that hv_vtom_init() sets up are others, and no row of
    # a truth table is of one.
    "not sev_guest or sev_supported",
    # The kernel's own word, and not the machine's: bsp_determine_snp() takes it back under a
    # hypervisor (linux 6.12.117 arch/x86/kernel/cpu/amd.c:362), and SEAMCALLs are a TDX host's.
    "not snp_host or not hypervisor",
    "not seamcalled or (tdx_host_enabled and not hypervisor)",
)


@cache
def encrypts() -> Expression:
    """When a kernel with AMD memory encryption maps its memory with the C-bit as a host."""
    # ``sme_enable()``, linux 6.12.117 arch/x86/mm/mem_encrypt_identity.c:493; it does not ask for
    # the vendor.
    return parse(_ENCRYPTS)


@cache
def axioms() -> tuple[Expression, ...]:
    """Every axiom; a machine on which one of them is false cannot exist."""
    return tuple(parse(axiom) for axiom in (*map(_denied, EXCLUDED), *_AXIOMS))


def _denied(exclusion: Mapping[str, bool]) -> str:
    words = ((OF_VENDOR.get(name, name), holds) for name, holds in exclusion.items())
    return f"not ({' and '.join(word if holds else f'not {word}' for word, holds in words)})"

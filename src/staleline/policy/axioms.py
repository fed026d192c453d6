# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds of every machine, so that rules are compared on machines that can exist only."""

from __future__ import annotations

from functools import cache

from staleline.policy.expression import Expression, parse

__all__ = ["axioms", "encrypts"]

_ENCRYPTS = (
    "(sme_supported or sev_supported) and sme_enabled and mem_encrypt"
    " and not hypervisor and not sev_guest"
)

_AXIOMS = (
    # A leaf beyond the maximum is not there (Intel SDM and AMD APM, CPUID).
    "max_extended_leaf >= 0x8000001f or (not sme_supported and not sev_supported)",
    # Where the leaf is there, reading it without checking makes no difference.
    "max_extended_leaf < 0x8000001f or not sme_supported or sme_bit_unchecked",
    "max_extended_leaf < 0x8000001f or sme_supported or not sme_bit_unchecked",
    # SME and SEV are AMD's and Hygon's, TDX is Intel's.
    '(vendor == "AuthenticAMD" or vendor == "HygonGenuine")'
    " or (not sme_supported and not sev_supported)",
    'vendor == "GenuineIntel" or (not tdx_host_enabled and not tdx_guest)',
    # Derived, not a fact of its own: on every machine it is what sme_enable() makes of the others.
    f"not sme_active or ({_ENCRYPTS})",
    f"sme_active or not ({_ENCRYPTS})",
    # SEV_STATUS is read only where CPUID shows SME or SEV (linux 7.3.4
    # arch/x86/boot/startup/sme.c:529).
    "not sev_guest or (hypervisor and sev_supported)",
    # SEV-ES is SEV that hides the registers too (AMD APM volume 2, 15.34.10, SEV_STATUS).
    "not sev_es_guest or sev_guest",
    "not tdx_guest or hypervisor",
    # SNP is AMD's and needs SYSCFG[23] (linux 6.12.117 arch/x86/kernel/cpu/amd.c:362,
    # arch/x86/virt/svm/sev.c), SEAMCALLs a TDX host.
    'not snp_host or (vendor == "AuthenticAMD" and sme_enabled and sev_supported'
    " and not hypervisor)",
    "not seamcalled or (tdx_host_enabled and not hypervisor)",
    # A guest is given no host key.
    "not hypervisor or (not sme_enabled and not tdx_host_enabled)",
    # SYSCFG[23] is reserved without either.
    "sme_supported or sev_supported or not sme_enabled",
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
    return tuple(parse(axiom) for axiom in _AXIOMS)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The facts that an image's truth table is over, before any kernel has derived anything.

A row says what CPUID, the MSRs and the command line answer; what a kernel makes of them
(``sme_me_mask``, feature flags, ``cc_vendor``) differs between eras and is read from the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from staleline.hardware import ENCRYPTION_LEAF
from staleline.policy.atoms import AtomValue

__all__ = ["ENCRYPTING_HOST", "INTEL_HOST", "RawFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFacts:
    """One machine, its firmware's settings, and what is asked of the kernel.

    Attributes:
        vendor: CPUID vendor string.
        leaf: The maximum extended leaf reaches 0x8000001F.
        sme: Bit 0 of what CPUID 0x8000001F returns, whether the leaf exists or not.
        sev: Bit 1 of it.
        hypervisor: CPUID 1 ECX[31].
        sme_enabled: MSR 0xC0010010 (SYSCFG) bit 23.
        sev_status: MSR 0xC0010131 (SEV_STATUS) bit 0.
        sev_es: Bit 1 of it, which no machine has without bit 0.
        snp_guest: Bit 2 of it, which no machine has without the others. No atom tells it apart.
        mem_encrypt: The command line says ``mem_encrypt=on``.
        tdx_keyids: MSR 0x87 gives KeyIDs to TDX.
        seamcalled: The CPU made a SEAMCALL since its last WBINVD.
        snp_host: The kernel runs SNP guests (CC_ATTR_HOST_SEV_SNP stayed set).
        preserve_context: The image was loaded for a kexec jump.
    """

    vendor: str
    leaf: bool
    sme: bool
    sev: bool
    hypervisor: bool
    sme_enabled: bool
    sev_status: bool
    mem_encrypt: bool
    sev_es: bool = False
    tdx_keyids: bool = False
    seamcalled: bool = False
    snp_host: bool = False
    preserve_context: bool = False
    snp_guest: bool = False

    @property
    def encrypts(self) -> bool:
        """Would a kernel with AMD memory encryption use it for its own memory, as a host?

        ``sme_enable()``: linux 6.12.117 arch/x86/mm/mem_encrypt_identity.c:493; the same in
        5.10.262, 6.1.192 and 7.3.4 (arch/x86/boot/startup/sme.c:490).
        """
        capable = self.leaf and (self.sme or self.sev)
        asked = self.mem_encrypt and self.sme_enabled and not self.hypervisor
        return capable and asked and not self.sev_status

    def atoms(self) -> Mapping[str, AtomValue]:
        """The same as values of a policy's atoms."""
        return {
            "vendor": self.vendor,
            "max_extended_leaf": ENCRYPTION_LEAF if self.leaf else 0x8000_0008,
            "sme_supported": self.leaf and self.sme,
            "sev_supported": self.leaf and self.sev,
            "sme_bit_unchecked": self.sme,
            "hypervisor": self.hypervisor,
            "sme_enabled": self.sme_enabled,
            "sev_guest": self.sev_status,
            "sev_es_guest": self.sev_es,
            "mem_encrypt": self.mem_encrypt,
            "sme_active": self.encrypts,
            "tdx_host_enabled": self.tdx_keyids,
            "tdx_guest": False,
            "seamcalled": self.seamcalled,
            "snp_host": self.snp_host,
        }


#: A host of AMD's whose kernel encrypts its memory: where every era has the most to do.
ENCRYPTING_HOST: Final = RawFacts(
    vendor="AuthenticAMD",
    leaf=True,
    sme=True,
    sev=True,
    hypervisor=False,
    sme_enabled=True,
    sev_status=False,
    mem_encrypt=True,
)
#: A host of Intel's, with none of that; it may use TDX.
INTEL_HOST: Final = replace(
    ENCRYPTING_HOST,
    vendor="GenuineIntel",
    leaf=False,
    sme=False,
    sev=False,
    sme_enabled=False,
    mem_encrypt=False,
)

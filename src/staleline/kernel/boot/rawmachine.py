# SPDX-License-Identifier: GPL-2.0-or-later
"""The smallest machine that answers as raw facts say.

Real CPUID dumps would do as well, but a machine of few leaves asks little of the emulator,
and some combinations exist in no dump. What a leaf does not say is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from staleline.evidence.registers import CpuidTable, Registers
from staleline.hardware import (
    ENCRYPTION_LEAF,
    HYPERVISOR_PRESENT,
    MEM_ENCRYPT_ENABLED,
    SEV_STATUS,
    SYSCFG,
    TDX_KEYIDS,
)
from staleline.kernel.boot.decision import RawMachine
from staleline.kernel.boot.rawfacts import RawFacts

__all__ = ["SIGNATURES", "GivenCpuid", "raw_machine"]

#: CPUID 1 EAX by vendor, as `CpuidTable.family_model_stepping` reads it.
SIGNATURES: Final[Mapping[str, int]] = {
    "AuthenticAMD": 0x00A0_0F11,  # family 19h, model 1: Milan
    "HygonGenuine": 0x0090_0F02,  # family 18h, model 0: Dhyana
    "GenuineIntel": 0x0008_06F8,  # family 6, model 0x8f: Sapphire Rapids
    "  Shanghai  ": 0x0003_07B0,  # family 7, model 0x3b: Zhaoxin KX-6000
}

_OTHER: Final = SIGNATURES["  Shanghai  "]
# Bit numbers: arch/x86/include/asm/cpufeatures.h (linux 6.12.117).
_FEATURES_EDX: Final = sum(1 << bit for bit in (0, 3, 4, 5, 6, 8, 9, 13, 15, 24, 25, 26))
_EXTENDED_FEATURES_EDX: Final = 1 << 11 | 1 << 20 | 1 << 29  # SYSCALL, NX, LM
_ADDRESS_BITS: Final = 48 << 8 | 48
_C_BIT: Final = 47
_LAST_LEAF_WITHOUT: Final = 0x8000_0008
_SNP_FEATURES: Final = 1 << 3 | 1 << 4  # SEV-ES, SEV-SNP

_KEYIDS: Final = 32 << 32


@dataclass(frozen=True, slots=True)
class GivenCpuid(CpuidTable):
    """CPUID leaves that are all there is: no vendor's rule for leaves above the maximum."""

    def read(self, leaf: int, subleaf: int = 0) -> Registers:
        """The given leaf, else zeros."""
        return self.leaves.get((leaf, subleaf), (0, 0, 0, 0))


def raw_machine(facts: RawFacts) -> RawMachine:
    """A machine of two alike CPUs.

    A vendor that is none of `SIGNATURES` has the signature of the last.
    """
    encryption = facts.sme | facts.sev << 1 | _SNP_FEATURES * facts.snp_host
    cpuid = _cpuid(facts.vendor, facts.leaf, encryption, facts.hypervisor)
    msr = {
        SYSCFG: MEM_ENCRYPT_ENABLED * facts.sme_enabled,
        SEV_STATUS: facts.sev_status | facts.sev_es << 1 | facts.snp_guest << 2,
        TDX_KEYIDS: _KEYIDS * facts.tdx_keyids,
    }
    return RawMachine(
        cpuid,
        cpuid,
        msr,
        mem_encrypt=facts.mem_encrypt,
        snp_host=facts.snp_host,
        seamcalled=facts.seamcalled,
        preserve_context=facts.preserve_context,
    )


@cache
def _cpuid(vendor: str, leaf: bool, encryption: int, hypervisor: bool) -> GivenCpuid:
    name = vendor.encode("latin-1")
    ebx, edx, ecx = (int.from_bytes(name[at : at + 4], "little") for at in (0, 4, 8))
    return GivenCpuid(
        {
            (0x0, 0): (0x1, ebx, ecx, edx),
            (0x1, 0): (
                SIGNATURES.get(vendor, _OTHER),
                0,
                HYPERVISOR_PRESENT * hypervisor,
                _FEATURES_EDX,
            ),
            (0x8000_0000, 0): (ENCRYPTION_LEAF if leaf else _LAST_LEAF_WITHOUT, 0, 0, 0),
            (0x8000_0001, 0): (0, 0, 0, _EXTENDED_FEATURES_EDX),
            (0x8000_0008, 0): (_ADDRESS_BITS, 0, 0, 0),
            (ENCRYPTION_LEAF, 0): (encryption, _C_BIT, 0, 0),
        }
    )

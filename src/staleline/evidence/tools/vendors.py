# SPDX-License-Identifier: GPL-2.0-or-later
"""Vendors of CPUs as texts name them.

CPUID gives twelve bytes. Texts of people and tools lose spaces at the ends of them, or hold what
somebody put there instead of a name: that is no vendor, and leaves it open who made the CPU.
"""

from __future__ import annotations

__all__ = ["named_vendor"]

#: What CPUs answer at leaf 0: c_ident in linux 7.3.4 and 6.12.117 arch/x86/kernel/cpu/*.c, and
#: those that Linux knows no code for (QEMU's TCG, VIA, SiS, RDC, NexGen, Rise, AMD's first).
_VENDORS = (
    "AuthenticAMD",
    "HygonGenuine",
    "GenuineIntel",
    "CentaurHauls",
    "  Shanghai  ",
    "VIA VIA VIA ",
    "CyrixInstead",
    "Geode by NSC",
    "GenuineTMx86",
    "TransmetaCPU",
    "UMC UMC UMC ",
    "Vortex86 SoC",
    "SiS SiS SiS ",
    "Genuine  RDC",
    "NexGenDriven",
    "RiseRiseRise",
    "AMDisbetter!",
    "TCGTCGTCGTCG",
)
_BY_WORDS = {name.strip(): name for name in _VENDORS}


def named_vendor(text: str | None) -> str | None:
    """The vendor as CPUID gives it, or None where `text` names none."""
    # Linux prints ``unknown`` for a CPU without a name (7.3.4 arch/x86/kernel/cpu/proc.c:76).
    return None if text is None else _BY_WORDS.get(text.strip())

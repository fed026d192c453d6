# SPDX-License-Identifier: GPL-2.0-or-later
"""Which combinations of raw facts a truth table has."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Final

from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.boot.rawmachine import SIGNATURES

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["lacking", "raw_facts"]

_OFF_AND_ON = (False, True)
_WITH_SNP: Final = "AuthenticAMD"
_WITH_SEV: Final = (_WITH_SNP, "HygonGenuine")
#: Facts that only kernels with one of these functions can tell apart: SEAMCALLs are made by the
#: first (linux 7.3.4 arch/x86/virt/vmx/tdx/seamcall.S:21), SNP guests need what the others look
#: for and set up (linux 6.12.117 arch/x86/virt/svm/sev.c:121, :192), each of which ends up in its
#: only caller where a linker optimises across files.
_CODE_FOR: Final = {
    "seamcalled": ("__seamcall",),
    "snp_host": ("snp_rmptable_init", "snp_probe_rmptable_info"),
}


def lacking(image: KernelImage) -> tuple[str, ...]:
    """``seamcalled`` and ``snp_host``, where an image has no code for them."""
    return tuple(
        fact
        for fact, symbols in _CODE_FOR.items()
        if not any(symbol in image.symbols for symbol in symbols)
    )


def raw_facts(lacks: Collection[str] = tuple(_CODE_FOR)) -> tuple[RawFacts, ...]:
    """Every combination for a kexec, then those of a kexec jump on a physical AMD machine.

    Args:
        lacks: ``seamcalled`` or ``snp_host`` for kernels that have no code for it.
    """
    # None is left out because no such machine exists: Intel with SME, or SEV active without SEV,
    # are asked as well, since code that tells them apart has a guard of its own.
    every = tuple(_every_combination())
    physical = tuple(facts for facts in every if not (facts.hypervisor or facts.sev_status))
    amd = tuple(facts for facts in physical if facts.vendor == "AuthenticAMD")
    rows = [*every, *(replace(facts, preserve_context=True) for facts in amd)]
    # Of SEV-ES and SNP guests and of SNP and TDX hosts there are no others than can exist.
    sev_es = [replace(facts, sev_es=True) for facts in every if _may_be_sev_es_guest(facts)]
    rows += sev_es
    rows += [replace(facts, snp_guest=True) for facts in sev_es if facts.vendor == _WITH_SNP]
    if "snp_host" not in lacks:
        rows += [replace(facts, snp_host=True) for facts in amd if _may_run_snp(facts)]
    if "seamcalled" not in lacks:
        intel = [replace(facts, tdx_keyids=True) for facts in every if _may_have_keyids(facts)]
        rows += intel
        rows += [replace(facts, seamcalled=True) for facts in intel if not facts.hypervisor]
    return tuple(rows)


def _every_combination() -> Iterator[RawFacts]:
    for vendor, bits in product(SIGNATURES, product(_OFF_AND_ON, repeat=7)):
        leaf, sme, sev, hypervisor, sme_enabled, sev_status, mem_encrypt = bits
        yield RawFacts(
            vendor=vendor,
            leaf=leaf,
            sme=sme,
            sev=sev,
            hypervisor=hypervisor,
            sme_enabled=sme_enabled,
            sev_status=sev_status,
            mem_encrypt=mem_encrypt,
        )


def _may_be_sev_es_guest(facts: RawFacts) -> bool:
    is_sev_guest = facts.leaf and facts.sev and facts.sev_status and facts.hypervisor
    return is_sev_guest and facts.vendor in _WITH_SEV


def _may_run_snp(facts: RawFacts) -> bool:
    return facts.leaf and facts.sev and facts.sme_enabled


def _may_have_keyids(facts: RawFacts) -> bool:
    # A guest may read those of its host, where a hypervisor passes the MSR through.
    return facts.vendor == "GenuineIntel" and not facts.sme_enabled and not facts.sev_status

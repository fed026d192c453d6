# SPDX-License-Identifier: GPL-2.0-or-later
"""Which combinations of raw facts a truth table has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from staleline.kernel.rawfacts import RawFacts
from staleline.kernel.rawmachine import SIGNATURES

__all__ = ["raw_facts"]

_OFF_AND_ON = (False, True)


def raw_facts() -> tuple[RawFacts, ...]:
    """Every combination for a kexec, then those of a kexec jump on a physical AMD machine.

    None is left out because no such machine exists: Intel with SME, or SEV active without
    SEV, are asked as well, since code that tells them apart has a guard of its own.
    """
    every = tuple(_every_combination())
    jumps = (replace(facts, preserve_context=True) for facts in every if _is_physical_amd(facts))
    return (*every, *jumps)


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


def _is_physical_amd(facts: RawFacts) -> bool:
    return facts.vendor == "AuthenticAMD" and not facts.hypervisor and not facts.sev_status

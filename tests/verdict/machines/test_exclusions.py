# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot hold together is said twice, for machines and for rules: both say the same."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pytest

from staleline.policy.atoms import atoms
from staleline.policy.expression import AtomIs, Expression, Negation, parse
from staleline.policy.literals import conjunction_of
from staleline.policy.smt import find_machine, to_z3
from staleline.verdict.machines.exclusions import EXCLUSIONS, OF_VENDOR, POINTLESS

#: What a machine's vendor is, as a rule asks for it.
VENDOR = {
    "amd": parse('vendor == "AuthenticAMD"'),
    "amd_or_hygon": parse('vendor == "AuthenticAMD" or vendor == "HygonGenuine"'),
    "intel": parse('vendor == "GenuineIntel"'),
}
NAMES = {name for exclusion in EXCLUSIONS for name in exclusion}
#: What the rules' language has a word for.
SAID_IN_RULES = [exclusion for exclusion in EXCLUSIONS if exclusion.keys() <= {*VENDOR, *atoms()}]


def stated(exclusion: Mapping[str, bool]) -> Expression:
    """All of it, in the rules' language."""
    parts = ((VENDOR.get(name) or AtomIs(name), holds) for name, holds in exclusion.items())
    return conjunction_of(part if holds else Negation(part) for part, holds in parts)


def test_every_vendor_flag_has_an_expression_here() -> None:
    assert VENDOR.keys() == OF_VENDOR


def test_most_exclusions_can_be_said_in_rules() -> None:
    """Those that cannot are about use, isolation and aliases, which no rule asks for."""
    left = [exclusion for exclusion in EXCLUSIONS if exclusion not in SAID_IN_RULES]
    beyond_rules = {
        *("isolated", "tdx_used", "sev_guests_run", "snp_guest"),
        *("coherency_enforced", "coherency_sfw_no", "guest_aliases_coherent"),
    }
    assert all(beyond_rules & exclusion.keys() for exclusion in left)
    assert len(SAID_IN_RULES) >= len(left)


#: Rules are compared on such CPUs all the same, so that a kernel which reads the leaf without
#: looking at the maximum is not taken for one that looks.
COMPARED_IN_RULES = [{"amd_or_hygon": True, "sme_supported": False, "sme_bit_unchecked": True}]


# sev_es_guest without sev_guest, snp_host on Hygon, SME on Intel and the like: APM volume 2, 15.34;
# linux 6.12.118 arch/x86/kernel/cpu/amd.c, arch/x86/mm/mem_encrypt_identity.c.
@pytest.mark.parametrize("exclusion", SAID_IN_RULES, ids=str)
def test_what_fits_no_machine_fits_no_axiom(exclusion: Mapping[str, bool]) -> None:
    exists = find_machine(to_z3(stated(exclusion))) is not None
    assert exists is (exclusion in COMPARED_IN_RULES)


def test_what_makes_no_difference_is_said_of_names_that_exclusions_or_machines_have() -> None:
    for when, names in POINTLESS:
        assert when
        assert not when.keys() & set(names)


def test_no_exclusion_is_part_of_another() -> None:
    """The longer one would never be the one that is broken first, nor leave less choice."""
    for one, other in product(EXCLUSIONS, EXCLUSIONS):
        assert one is other or not one.items() <= other.items()

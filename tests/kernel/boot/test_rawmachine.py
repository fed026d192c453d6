# SPDX-License-Identifier: GPL-2.0-or-later
"""The combinations of raw facts, and the machines that answer as they say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.boot.rawmachine import SIGNATURES, raw_machine
from staleline.kernel.rule.enumeration import raw_facts

EVERYTHING = raw_facts(lacks=())

FAMILIES = {"AuthenticAMD": 0x19, "HygonGenuine": 0x18, "GenuineIntel": 6, "  Shanghai  ": 7}


def told_by(machine) -> RawFacts:
    """The facts that a machine's answers tell."""
    cpuid, msr = machine.jumping, machine.firmware_msr
    encryption = cpuid.read(0x8000_001F)[0]
    return RawFacts(
        vendor=cpuid.vendor,
        leaf=cpuid.read(0x8000_0000)[0] >= 0x8000_001F,
        sme=bool(encryption & 1),
        sev=bool(encryption & 2),
        hypervisor=bool(cpuid.read(1)[2] >> 31),
        sme_enabled=bool(msr[0xC001_0010] >> 23 & 1),
        sev_status=bool(msr[0xC001_0131] & 1),
        mem_encrypt=machine.mem_encrypt,
        sev_es=bool(msr[0xC001_0131] & 2),
        snp_guest=bool(msr[0xC001_0131] & 4),
        tdx_keyids=bool(msr[0x87] >> 32),
        seamcalled=machine.seamcalled,
        snp_host=machine.snp_host,
        preserve_context=machine.preserve_context,
    )


def test_a_machine_answers_as_its_facts_say():
    assert [told_by(raw_machine(facts)) for facts in EVERYTHING] == list(EVERYTHING)


def test_both_cpus_are_alike():
    machine = raw_machine(EVERYTHING[0])
    assert machine.jumping == machine.secondary


def test_beyond_the_maximum_the_given_bits_are_returned():
    """Whatever the vendor's rule: what a leaf beyond it holds is a fact of its own."""
    for vendor in SIGNATURES:
        facts = replace(EVERYTHING[0], vendor=vendor, sme=True)
        cpuid = raw_machine(facts).jumping
        assert cpuid.max_extended_leaf is not None
        assert cpuid.max_extended_leaf < 0x8000_001F
        assert (cpuid.read(0x8000_001F) or ())[:1] == (1,)
        assert cpuid.read(0x7, 3) == (0, 0, 0, 0)


@pytest.mark.parametrize("vendor", FAMILIES)
def test_signatures_are_of_the_vendor_s_family(vendor):
    cpuid = raw_machine(replace(EVERYTHING[0], vendor=vendor)).jumping
    assert (cpuid.family_model_stepping or ())[:1] == (FAMILIES[vendor],)


def test_every_combination_of_the_eight_facts_of_a_kexec_is_there():
    plain = [
        facts
        for facts in EVERYTHING
        if not (facts.preserve_context or facts.sev_es or facts.snp_host or facts.tdx_keyids)
    ]
    assert len(plain) == len(set(plain)) == len(SIGNATURES) * 2**7


def test_combinations_that_no_machine_has_are_asked_too():
    impossible = replace(EVERYTHING[0], vendor="GenuineIntel", leaf=True, sme=True)
    assert impossible in EVERYTHING


def test_what_a_kernel_has_no_code_for_is_left_out():
    assert not any(facts.snp_host for facts in raw_facts(lacks=["snp_host"]))
    assert not any(facts.tdx_keyids for facts in raw_facts(lacks=["seamcalled"]))
    assert any(facts.snp_host for facts in EVERYTHING)
    assert {True, False} == {facts.seamcalled for facts in EVERYTHING if facts.tdx_keyids}

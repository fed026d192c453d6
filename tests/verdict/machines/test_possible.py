# SPDX-License-Identifier: GPL-2.0-or-later
"""Every machine that fits the facts, none that cannot exist, and what each one assumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.snapshot import Snapshot
from staleline.facts import Fact, MachineFacts, Value, from_snapshot
from staleline.policy.axioms import axioms
from staleline.policy.evaluate import evaluate
from staleline.policy.expression import parse
from staleline.policy.smt import equivalent
from staleline.verdict.machines.exclusions import EXCLUSIONS, OF_VENDOR
from staleline.verdict.machines.possible import FACT_NAMES, possible_machines

#: Nothing is known.
NO_FACTS = from_snapshot(Snapshot(cpus=()))
#: A host of AMD's of which all is known but whether SEV guests have run.
ROME: Mapping[str, Value] = {
    "vendor": "AuthenticAMD",
    "max_extended_leaf": 0x8000_0020,
    "hypervisor": False,
    "isolated": False,
    "sme": True,
    "sev": True,
    "unchecked_sme_bit": True,
    "coherency_enforced": False,
    "coherency_sfw_no": False,
    "tdx_guest": False,
    "sev_guest": False,
    "sev_es_guest": False,
    "snp_guest": False,
    "sme_enabled": True,
    "snp_enabled": False,
    "tdx_keyids": 0,
    "mem_encrypt": "on",
    "tdx_module": "absent",
    "jumped_by": "kernel",
    "several_cpus": True,
    "reboot_force": False,
    "offline_cpus": (),
    "mwait": True,
    "tsme": False,
}


def known(values: Mapping[str, Value]) -> MachineFacts:
    """These facts, and none of the others."""
    return MachineFacts.of(
        Fact(fact.name, fact.layer, fact.text, values[fact.name], source="this test")
        if values.get(fact.name) is not None
        else replace(fact, value=None, source=None, missing="not in this test")
        for fact in NO_FACTS
    )


def changed(**values: Value) -> MachineFacts:
    return known({**ROME, **values})


def assumed(facts: MachineFacts) -> set[str]:
    return {name for possibility in possible_machines(facts) for name in possibility.assumed}


def test_the_plainest_machine_comes_first() -> None:
    first, second = possible_machines(changed())
    assert (first.assumed, second.assumed) == ({"sev_guests_run": False}, {"sev_guests_run": True})


def test_a_fact_that_another_one_decides_is_not_assumed() -> None:
    # sev_hardware_setup() of KVM starts SEV guests only where SYSCFG[23] is set
    # (linux 6.12.118 arch/x86/kvm/svm/sev.c).
    (only,) = possible_machines(changed(sme_enabled=False, sme_active=False))
    assert only.assumed == {}
    assert not only.machine.sev_guests_run


def test_that_a_kernel_encrypts_tells_of_firmware_and_hardware() -> None:
    # sme_enable() sets the mask only behind all of these (linux 6.12.118
    # arch/x86/mm/mem_encrypt_identity.c).
    for possibility in possible_machines(known({"vendor": "AuthenticAMD", "sme_active": True})):
        machine = possibility.machine
        assert machine.sme_enabled
        assert machine.sme_supported or machine.sev_supported
        assert not machine.hypervisor
        assert not machine.sev_guest


def test_a_vendor_that_is_not_known_is_each_of_four() -> None:
    vendors = {each.assumed["vendor"] for each in possible_machines(changed(vendor=None, sme=None))}
    # Hygon's and AMD's CPUs have SEV; the others cannot, whatever else is known.
    assert vendors == {"AuthenticAMD", "HygonGenuine"}
    everything_open = possible_machines(known({"hypervisor": False, "sme": False, "sev": False}))
    assert len({each.assumed["vendor"] for each in everything_open}) == 4


@pytest.mark.parametrize(
    ("keyids", "tme", "enabled"),
    [(0, None, False), (1, None, False), (2, None, True), (63, True, True), (None, False, False)],
)
def test_tdx_takes_two_key_ids(keyids: int | None, tme: bool | None, enabled: bool) -> None:
    # The module keeps one for itself: linux 7.3.4 arch/x86/virt/vmx/tdx/tdx.c:1549.
    facts = changed(
        vendor="GenuineIntel",
        sme=False,
        sev=False,
        unchecked_sme_bit=False,
        sme_enabled=False,
        tdx_keyids=keyids,
        tme=tme,
    )
    assert {each.machine.tdx_host_enabled for each in possible_machines(facts)} == {enabled}


def test_one_cpu_has_nobody_to_stop_or_to_wake() -> None:
    facts = changed(several_cpus=False, reboot_force=None, offline_cpus=None, mwait=None)
    assert assumed(facts) == {"sev_guests_run"}


def test_where_no_cpu_is_offline_it_does_not_matter_how_one_would_wait() -> None:
    assert "mwait" not in assumed(changed(mwait=None))
    assert "mwait" in assumed(changed(mwait=None, offline_cpus=(3,)))


def test_only_an_encrypted_guest_has_aliases_of_its_own() -> None:
    about_guests = {"guest_flushes", "guest_aliases_coherent"}
    assert not about_guests & assumed(changed())
    guest = changed(hypervisor=True, hypervisor_name="KVM", sev_guest=True, sme_enabled=False)
    # The bit that keeps a host's aliases coherent keeps a SEV guest's, and it is clear here.
    assert about_guests & assumed(guest) == {"guest_flushes"}
    assert not any(each.machine.guest_aliases_coherent for each in possible_machines(guest))


@pytest.mark.parametrize(
    ("snp", "enforced", "no_sfw", "coherent"),
    [
        (False, True, None, {True}),
        (False, False, None, {False}),
        # An SNP guest has to evict lines by itself unless EBX[31] says that it need not
        # (linux 7.3.4 arch/x86/boot/startup/sme.c:526, arch/x86/coco/sev/core.c:234).
        (True, True, True, {True}),
        (True, True, False, {False, True}),
    ],
)
def test_when_a_guests_aliases_are_coherent(
    snp: bool, enforced: bool, no_sfw: bool | None, coherent: set[bool]
) -> None:
    facts = changed(
        hypervisor=True,
        hypervisor_name="KVM",
        sme_enabled=False,
        sev_guest=True,
        sev_es_guest=snp,
        snp_guest=snp,
        coherency_enforced=enforced,
        coherency_sfw_no=no_sfw,
    )
    assert {each.machine.guest_aliases_coherent for each in possible_machines(facts)} == coherent


@pytest.mark.parametrize(
    "impossible",
    [
        {"vendor": "GenuineIntel"},
        {"sev_es_guest": True},
        {"snp_guest": True},
        {"snp_enabled": True, "sme_enabled": False},
        {"sev_guests_run": True, "sev": False},
        {"tdx_keyids": 8},
        {"tdx_guest": True},
        {"sme_active": True, "sme_enabled": False},
        {"sme": False, "sev": False},
    ],
    ids=str,
)
def test_facts_that_fit_no_machine_are_a_contradiction_that_names_them(
    impossible: Mapping[str, Value],
) -> None:
    with pytest.raises(ContradictionError) as error:
        possible_machines(known({**ROME, **impossible}))
    told = {"sme_enabled", *impossible}
    assert any(name in str(error.value) for name in told)


OPEN = ("sme", "sev", "unchecked_sme_bit", "sme_enabled", "hypervisor", "sev_guest", "mwait")


@given(
    st.fixed_dictionaries({name: st.sampled_from((None, False, True)) for name in OPEN}),
    st.sampled_from((None, "AuthenticAMD", "HygonGenuine", "GenuineIntel", "CentaurHauls")),
)
def test_no_machine_breaks_an_exclusion_or_a_fact(
    values: Mapping[str, bool | None], vendor: str | None
) -> None:
    rest = {name: value for name, value in ROME.items() if name not in OPEN}
    facts = known({**rest, **values, "vendor": vendor, "tdx_guest": False})
    try:
        possible = possible_machines(facts)
    except ContradictionError:
        return
    for each in possible:
        machine = each.machine
        for name, value in values.items():
            field = next((key for key, fact in FACT_NAMES.items() if fact == name), name)
            assert value is None or getattr(machine, field) is value
        of_machine = {
            "amd": machine.vendor == "AuthenticAMD",
            "amd_or_hygon": machine.vendor in {"AuthenticAMD", "HygonGenuine"},
            "intel": machine.vendor == "GenuineIntel",
        }
        assert of_machine.keys() == OF_VENDOR
        for exclusion in EXCLUSIONS:
            if exclusion.keys() & {"sme_active", "coherency_sfw_no"}:
                continue  # no fields of a machine
            holding = (of_machine.get(name, getattr(machine, name, None)) for name in exclusion)
            assert list(holding) != list(exclusion.values())


def test_all_combinations_that_fit_are_there() -> None:
    """Against a plain enumeration of what is open here."""
    facts = changed(sme_enabled=None, snp_enabled=None, sev_guests_run=None)
    fitting = {
        (enabled, snp, guests)
        for enabled, snp, guests in product((False, True), repeat=3)
        if enabled or not (snp or guests)
    }
    assert {
        (each.machine.sme_enabled, each.machine.snp_host, each.machine.sev_guests_run)
        for each in possible_machines(facts)
    } == fitting


#: What a rule can tell apart, all of it left open.
RULED = (
    *("vendor", "sme", "sev", "unchecked_sme_bit", "hypervisor", "sev_guest", "sev_es_guest"),
    *("snp_guest", "sme_enabled", "snp_enabled", "tdx_guest", "tdx_keyids", "mem_encrypt"),
)


@pytest.mark.parametrize(
    ("vendor", "leaf"), [(None, None), ("AuthenticAMD", 0x8000_0020), ("HygonGenuine", 0x8000_0020)]
)
def test_rules_are_compared_on_every_machine_that_evidence_may_describe(
    vendor: str | None, leaf: int | None
) -> None:
    """Else two rules that decide otherwise on one of them are called the same."""
    rest = {name: value for name, value in ROME.items() if name not in RULED}
    possible = possible_machines(known({**rest, "vendor": vendor, "max_extended_leaf": leaf}))
    seen = set()
    for each in possible:
        atoms = each.machine.atoms(seamcalled=False)
        seen.add((atoms["hypervisor"], atoms["sme_enabled"]))
        broken = [axiom for axiom in axioms() if not evaluate(axiom, atoms)]
        assert broken == [], atoms
    assert len(seen) == 4


def test_a_guest_that_is_shown_its_hosts_syscfg_is_a_machine() -> None:
    """For it sme_enable() asks for one (linux 6.12.118 arch/x86/mm/mem_encrypt_identity.c)."""
    shown, hidden = (
        machine.machine.atoms(seamcalled=False)["sme_enabled"]
        for value in (True, False)
        for machine in possible_machines(changed(hypervisor=True, sme_enabled=value))[:1]
    )
    assert (shown, hidden) == (True, False)
    assert not equivalent(parse("sme_enabled"), parse("sme_enabled and not hypervisor"))
    assert equivalent(parse("sme_active and not hypervisor"), parse("sme_active"))

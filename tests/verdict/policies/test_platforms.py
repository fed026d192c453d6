# SPDX-License-Identifier: GPL-2.0-or-later
"""Platform classes: which handovers there are, whatever a policy makes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from staleline.policy.catalogue import catalogue
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.judgement import judge
from staleline.verdict.handover.kernels import FixedKernel, PolicyKernel
from staleline.verdict.machines.exclusions import EXCLUSIONS
from staleline.verdict.machines.machine import Guest, Machine
from staleline.verdict.policies.platforms import (
    Selection,
    count_handovers,
    handovers_of,
    platforms,
)
from staleline.vocabulary import Path, Verdict

NO_FLUSH = FixedKernel({})
#: What a machine's vendor is, by the names that exclusions have for it.
VENDORS = {
    "amd": {"AuthenticAMD"},
    "amd_or_hygon": {"AuthenticAMD", "HygonGenuine"},
    "intel": {"GenuineIntel"},
}


def value(machine: Machine, name: str) -> bool | None:
    """None of what is no field of a machine."""
    if name in VENDORS:
        return machine.vendor in VENDORS[name]
    return machine.activates_sme if name == "sme_active" else getattr(machine, name, None)


@pytest.mark.parametrize("name", platforms())
def test_a_class_is_of_machines_that_can_exist(name: str) -> None:
    machine = platforms()[name].machine
    for exclusion in EXCLUSIONS:
        assert [value(machine, each) for each in exclusion] != list(exclusion.values()), exclusion


def test_there_is_a_class_for_every_kind_of_guest() -> None:
    assert {each.machine.guest for each in platforms().values()} == set(Guest)


def test_every_rule_meets_the_same_handovers() -> None:
    """So two rules can be compared row by row."""
    met = {
        name: [
            (platform, case.machine, case.path, case.next_encrypts)
            for platform, case in handovers_of(PolicyKernel(policy, "the policy"))
        ]
        for name, policy in catalogue().items()
    }
    first, *others = met.values()
    assert all(other == first for other in others)
    kernel = PolicyKernel(next(iter(catalogue().values())), "the policy")
    assert len(first) == len(set(first)) == count_handovers(kernel)


def test_only_a_host_that_can_encrypt_has_a_choice_of_it() -> None:
    # sme_enable(): SYSCFG[23], and no hypervisor (linux 7.3.4 arch/x86/boot/startup/sme.c:541-562).
    for _, case in handovers_of(NO_FLUSH):
        if not case.machine.can_encrypt:
            # An encrypted guest is one under the next kernel as well.
            assert case.next_encrypts is case.old_encrypts is case.machine.sev_guest
            assert not case.machine.sev_guests_run
    both = {
        (case.old_encrypts, case.next_encrypts)
        for _, case in handovers_of(NO_FLUSH, Selection(platforms=frozenset({"amd-sme-coherent"})))
    }
    assert len(both) == 4


def test_a_selection_and_the_rest_are_all() -> None:
    def met(**only: object) -> Counter[object]:
        selected = handovers_of(NO_FLUSH, Selection(**only))  # type: ignore[arg-type]
        return Counter(
            (name, case.machine, case.path, case.next_encrypts) for name, case in selected
        )

    everything = met()
    assert met(path=Path.KEXEC) + met(path=Path.CRASH) == everything
    assert met(old=False) + met(old=True) == everything
    assert met(next=False) + met(next=True) == everything
    names = frozenset(platforms())
    assert sum((met(platforms=frozenset({name})) for name in names), Counter()) == everything
    assert met(sev_guests=False) + met(sev_guests=True) == everything


def test_every_class_is_as_the_documentation_takes_for_granted() -> None:
    """docs/policies.md, Platform classes; on a host `audit` asks for each of them."""
    for platform in platforms().values():
        machine = platform.machine
        assert machine.several_cpus
        assert not machine.offline
        assert not machine.reboot_force
        assert not machine.snp_host
        assert machine.jumped_by_kernel
        assert not machine.isolated
        assert machine.guest_keys_snooped
        assert machine.guest_aliases_coherent
        assert machine.guest_flushes


def test_what_is_safe_on_a_class_may_not_be_where_devices_do_not_snoop_guest_keys() -> None:
    # KVM flushes such pages for devices even where EAX[10] is set (linux 6.12.118
    # arch/x86/kvm/svm/sev.c:3203).
    machine = replace(platforms()["amd-sme-coherent"].machine, sev_guests_run=True)
    for snooped, verdict in ((True, Verdict.SAFE), (False, Verdict.AT_RISK)):
        case = Case(
            machine=replace(machine, guest_keys_snooped=snooped),
            behaviour=NO_FLUSH.behaviour(machine),
            path=Path.KEXEC,
            next_encrypts=False,
        )
        assert judge(case).verdict is verdict

# SPDX-License-Identifier: GPL-2.0-or-later
"""What changes between two policies."""

from __future__ import annotations

from staleline.policy.catalogue import catalogue
from staleline.verdict.difference import compare
from staleline.vocabulary import ReportOrder, Site


def test_a_policy_does_not_differ_from_itself() -> None:
    policy = catalogue()["linux-6.5"]
    difference = compare(policy, policy)
    assert difference.handovers == ()
    assert all(site.added is None and site.dropped is None for site in difference.sites)


def test_7_2_carries_the_rule_of_6_18_at_every_site() -> None:
    # linux 7.3.4 arch/x86/kernel/process.c stop_this_cpu(), machine_kexec_64.c
    # machine_kexec(): the same flag as in 6.18; what changed is when TDX clears it.
    difference = compare(catalogue()["linux-6.18"], catalogue()["linux-7.2"])
    assert all(site.added is None and site.dropped is None for site in difference.sites)


def test_6_18_loses_hygon() -> None:
    difference = compare(catalogue()["linux-6.5"], catalogue()["linux-6.18"])
    worse = {changed.new.platform for changed in difference.handovers if changed.worse}
    assert worse == {"hygon-sme-incoherent"}
    dropped = {site.site: str(site.dropped) for site in difference.sites}
    assert dropped[Site.STOP_THIS_CPU] == 'sme_supported and vendor != "AuthenticAMD"'


def test_the_proposal_makes_no_handover_worse_and_some_better() -> None:
    difference = compare(catalogue()["linux-6.5"], catalogue()["host-mem-incoherent"])
    assert not any(changed.worse for changed in difference.handovers)
    better = {changed.new.platform for changed in difference.handovers if changed.better}
    assert better == {"amd-sme-incoherent", "hygon-sme-incoherent", "intel-tdx"}


def test_1f5e7eb7868e_turned_the_stop_protocol_round() -> None:
    difference = compare(catalogue()["linux-5.18"], catalogue()["linux-6.5"])
    assert difference.reported == (ReportOrder.BEFORE_FLUSH, ReportOrder.AFTER_FLUSH)
    assert any(changed.better for changed in difference.handovers)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What changes between two policies."""

from __future__ import annotations

from dataclasses import replace

from staleline.policy.catalogue import catalogue
from staleline.policy.expression import parse
from staleline.policy.policy import Policy
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.policies.difference import Difference, compare_kernels
from staleline.vocabulary import ReportOrder, Site


def compare(old: Policy, new: Policy) -> Difference:
    return compare_kernels(PolicyKernel(old, "the policy"), PolicyKernel(new, "the policy"))


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


def test_a_question_for_sev_es_spares_its_guests_a_fault() -> None:
    # WBINVD raises #VC there, and relocate_kernel() has no IDT (linux 6.12.117
    # arch/x86/kernel/machine_kexec_64.c:391); an SNP guest has SEV-ES as well.
    proposal = catalogue()["host-mem-incoherent"]
    spared = parse("(sme_supported and not sev_es_guest) or tdx_host_enabled")
    asking = replace(proposal, predicates={**proposal.predicates, Site.RELOCATE_KERNEL: spared})
    difference = compare(proposal, asking)
    dropped = {site.site: site.dropped for site in difference.sites if site.dropped is not None}
    assert {site: str(where) for site, where in dropped.items()} == {
        Site.RELOCATE_KERNEL: "sme_supported and sev_es_guest"
    }
    changed = difference.handovers
    assert {one.new.platform for one in changed} == {"guest-sev-es", "guest-snp"}
    assert all(Site.RELOCATE_KERNEL in one.old.judgement.faults for one in changed)
    assert all(Site.RELOCATE_KERNEL not in one.new.judgement.faults for one in changed)


def test_1f5e7eb7868e_turned_the_stop_protocol_round() -> None:
    difference = compare(catalogue()["linux-5.18"], catalogue()["linux-6.5"])
    assert difference.reported == (ReportOrder.BEFORE_FLUSH, ReportOrder.AFTER_FLUSH)
    assert any(changed.better for changed in difference.handovers)

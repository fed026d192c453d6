# SPDX-License-Identifier: GPL-2.0-or-later
"""The bugs of history, found again: a counterexample under the old rule, none under the fix.

Policies are those of the catalogue, which names their sources. Where no rule fixes a bug, the
test shows what makes the difference.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.check.answer import Answer, AnswerKind, check
from staleline.check.requirements import required_flushes
from staleline.check.runs.trace import Counterexample
from staleline.model.scenario import Flush, Scenario, Stop
from staleline.policy.catalogue import catalogue
from staleline.policy.policy import Policy
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.judgement import Judgement, judge
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.machines.machine import Machine
from staleline.verdict.policies.platforms import platforms
from staleline.vocabulary import Path, ReportOrder, Site, Verdict
from tests.check.scenarios import TRANSITIONS, kexec

AMD = platforms()["amd-sme-incoherent"].machine
HYGON = platforms()["hygon-sme-incoherent"].machine
TDX_HOST = platforms()["intel-tdx"].machine
#: An old Intel CPU: leaf 0x8000001F does not exist, so CPUID answers with the data of the
#: highest basic leaf, whose EAX happens to have bit 0 set.
PHANTOM = replace(platforms()["intel-no-tdx"].machine, sme_bit_unchecked=True)


def _policy(name: str) -> Policy:
    return catalogue()[name]


def _case(rule: Policy, machine: Machine, transition: str, path: Path = Path.KEXEC) -> Case:
    old, following = TRANSITIONS[transition]
    kernel = PolicyKernel(rule, "the policy itself")
    behaviour = kernel.behaviour(replace(machine, mem_encrypt=old))
    return Case(
        machine=replace(machine, mem_encrypt=old),
        behaviour=behaviour,
        path=path,
        next_encrypts=following,
    )


def _judged(rule: Policy | str, machine: Machine, transition: str = "off→off") -> Judgement:
    policy = _policy(rule) if isinstance(rule, str) else rule
    return judge(_case(policy, machine, transition))


def _counterexample(judgement: Judgement) -> Counterexample:
    assert judgement.verdict is Verdict.AT_RISK
    assert judgement.counterexample is not None
    return judgement.counterexample


def _scenario(rule: str, machine: Machine, transition: str) -> Scenario:
    (scenario,) = _case(_policy(rule), machine, transition).scenarios()
    return scenario


def _holds(answer: Answer) -> bool:
    return answer.kind is AnswerKind.PROVED


# Commit 1f5e7eb7868e (6.5): reported stopped before the flush.


@pytest.mark.parametrize("rule", ["linux-4.15", "linux-5.18"])
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_1f5e7eb7868e_the_jumping_cpu_went_on_while_others_were_in_wbinvd(
    rule: str, transition: str
) -> None:
    found = _counterexample(_judged(rule, AMD, transition))
    assert found.property == "P2"
    assert "still has its flush ahead of it" in found.steps[-1].sentence
    assert any(step.sentence.endswith("reports itself stopped.") for step in found.steps)


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_1f5e7eb7868e_reporting_after_the_flush_fixes_it(transition: str) -> None:
    fixed = replace(_policy("linux-5.18"), reported=ReportOrder.AFTER_FLUSH)
    assert _judged(fixed, AMD, transition).verdict is Verdict.SAFE
    assert _judged("linux-6.5", AMD, transition).verdict is Verdict.SAFE


# Commit 9b040453d444 (6.5): CPUID leaf 0x8000001F read where it does not exist.


def test_9b040453d444_a_cpu_without_sme_flushed_and_hung() -> None:
    # About half of the power-offs of a dual Westmere: its WBINVD was still running.
    judgement = _judged("linux-5.18", PHANTOM)
    assert judgement.flushes[Site.STOP_THIS_CPU]
    assert Site.STOP_THIS_CPU in judgement.unneeded
    assert _counterexample(judgement).property == "P2"


def test_9b040453d444_without_the_check_the_flush_stays_though_it_is_waited_for() -> None:
    waited_for = replace(_policy("linux-5.18"), reported=ReportOrder.AFTER_FLUSH)
    judgement = _judged(waited_for, PHANTOM)
    assert judgement.verdict is Verdict.SAFE
    assert Site.STOP_THIS_CPU in judgement.unneeded


@pytest.mark.parametrize("order", ReportOrder)
def test_9b040453d444_the_check_removes_flush_and_hang(order: ReportOrder) -> None:
    judgement = _judged(replace(_policy("linux-6.5"), reported=order), PHANTOM)
    assert judgement.verdict is Verdict.SAFE
    assert judgement.flushes == {Site.STOP_THIS_CPU: False, Site.RELOCATE_KERNEL: False}


# Commits 83214a775f33, 10df8607bf1a (6.18): TDX hosts. Before, Kconfig kept TDX and kexec
# apart because of the missing flush: cb8eb06d50fc (6.8).


def test_10df8607bf1a_before_private_lines_survived_on_a_tdx_host() -> None:
    found = _counterexample(_judged("linux-6.5", TDX_HOST))
    assert found.property == "P1"
    assert found.steps[-1].function == "cache"
    assert "dirty private KeyID entry" in found.steps[-1].sentence


@pytest.mark.parametrize("rule", ["linux-6.18", "linux-7.2", "host-mem-incoherent"])
def test_10df8607bf1a_flushing_every_cpu_that_made_a_seamcall_fixes_it(rule: str) -> None:
    assert _judged(rule, TDX_HOST).verdict is Verdict.SAFE


# v2 of "TDX host: kexec() support", LKML 2024-03-19: WBINVD always.


@pytest.mark.parametrize("guest", ["guest-sev-es", "guest-snp", "guest-tdx"])
def test_v2_of_march_2024_executed_wbinvd_where_it_faults(guest: str) -> None:
    machine = platforms()[guest].machine
    assert _judged("unconditional", machine).faults == (Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL)
    for fix in ("bare-metal", "not-encrypted-guest"):
        assert _judged(fix, machine).faults == ()


def test_v2_of_march_2024_no_run_of_such_a_guest_gets_to_the_next_kernel() -> None:
    flushing = kexec("on→on", incoherent=False, flush_faults=True)
    found = check(flushing).counterexample
    assert found is not None
    assert found.property == "P3"
    assert found.steps[-1].sentence.endswith("executes WBINVD in stop_this_cpu, where it faults.")
    skipping = replace(flushing, flush_secondary=Flush.NEVER, flush_jumping=Flush.NEVER)
    assert _holds(check(skipping))


# The variant of LKML 2024-02-19: sme_me_mask, which says what the current kernel uses.


def test_sme_me_mask_loses_the_secondaries_lines_from_off_to_on() -> None:
    found = _counterexample(_judged("sme-me-mask", AMD, "off→on"))
    assert found.property == "P1"
    assert found.steps[-1].actor == "secondary 1"
    assert "stale dirty plain entry" in found.steps[-1].sentence
    # The WBINVD of __enc_copy was executed, and did not reach that CPU.
    assert any(step.function == "__enc_copy" for step in found.steps)


@pytest.mark.parametrize("rule", ["host-mem-incoherent", "cc-vendor-moved", "tdx-kexec-v1"])
def test_what_the_hardware_supports_keeps_them(rule: str) -> None:
    assert _judged(rule, AMD, "off→on").verdict is Verdict.SAFE


# The race that the comment in native_stop_other_cpus leaves open (7.3 smp.c:184-189).


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_residual_race_a_late_nmi_makes_a_reported_cpu_flush_again(transition: str) -> None:
    scenario = _scenario("linux-6.5", AMD, transition)
    found = check(replace(scenario, late_nmi=True)).counterexample
    assert found is not None
    assert found.property == "P2"
    assert any("enters stop_this_cpu again" in step.sentence for step in found.steps)
    assert _holds(check(scenario))


def test_residual_race_is_bounded_only_where_there_is_no_wbinvd() -> None:
    # Why WBINVD on more machines than need one was objected to (LKML 2025-03, RFC of the series).
    no_sme = _scenario("linux-6.5", platforms()["amd-no-sme"].machine, "off→off")
    assert no_sme.flush_secondary is Flush.NEVER
    assert _holds(check(replace(no_sme, late_nmi=True)))
    needless = _scenario("bare-metal", platforms()["amd-no-sme"].machine, "off→off")
    assert check(replace(needless, late_nmi=True)).property == "P2"


# reboot=force (7.3 smp.c:155): nobody is stopped, in a kexec neither.


@pytest.mark.parametrize("rule", ["linux-4.15", "linux-6.5", "linux-7.2", "unconditional"])
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_reboot_force_breaks_every_rule(rule: str, transition: str) -> None:
    scenario = _scenario(rule, AMD, transition)
    forced = replace(scenario, stop=Stop.SKIPPED)
    assert check(forced).property in ("P1", "P5")
    assert not required_flushes(forced).attainable
    stopped = replace(forced, stop=Stop.COMPLETE, report=ReportOrder.AFTER_FLUSH)
    assert _holds(check(stopped))


# Hygon from 6.18: only arch/x86/kernel/cpu/amd.c sets the flag (7.3 amd.c:554, no such code in
# hygon.c), while sme_enable() looks at no vendor.


@pytest.mark.parametrize("rule", ["linux-6.18", "linux-7.2"])
@pytest.mark.parametrize("transition", ["off→on", "on→off", "on→on"])
def test_hygon_is_flushed_nowhere_from_6_18_on(rule: str, transition: str) -> None:
    judgement = _judged(rule, HYGON, transition)
    assert judgement.flushes == {Site.STOP_THIS_CPU: False, Site.RELOCATE_KERNEL: False}
    assert _counterexample(judgement).property == "P1"
    assert _judged(rule, AMD, transition).verdict is Verdict.SAFE


@pytest.mark.parametrize("rule", ["linux-6.5", "host-mem-incoherent"])
@pytest.mark.parametrize("transition", ["off→on", "on→off", "on→on"])
def test_hygon_was_flushed_before_and_by_the_proposal(rule: str, transition: str) -> None:
    assert _judged(rule, HYGON, transition).verdict is Verdict.SAFE

# SPDX-License-Identifier: GPL-2.0-or-later
"""The flushes that were worked out beforehand are those that the model gives.

That required.toml is what `check` says is tested with everything else that is made
from the code (tests/tools/test_generate_docs.py).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from staleline.check.answer import check, is_safe
from staleline.check.requirements import required_flushes
from staleline.model.scenario import Flush, ForeignLines, LeftBehind, Offline, Scenario, Stop
from staleline.model.state.lines import Role
from staleline.policy.catalogue import find
from staleline.verdict.handover import judgement, required
from staleline.verdict.handover.judgement import judge
from staleline.verdict.handover.kernels import PolicyKernel
from staleline.verdict.handover.required import is_known_safe, known_property, requirements
from staleline.verdict.policies.platforms import handovers_of, platforms
from staleline.vocabulary import Path, ReportOrder, Site, Verdict

KEXEC = Scenario(
    path=Path.KEXEC,
    old_encrypts=True,
    next_encrypts=False,
    incoherent=True,
    flush_secondary=Flush.ALWAYS,
    flush_jumping=Flush.NEVER,
)


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(scenario: Scenario) -> None:
        pytest.fail(f"not in the table: {scenario}")

    monkeypatch.setattr(required, "required_flushes", searched)
    required.requirements.cache_clear()


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("policy", ["linux-4.14", "linux-6.18", "unconditional"])
def test_no_handover_of_a_platform_is_searched_for_its_requirements(policy: str) -> None:
    for _, case in handovers_of(PolicyKernel(find(policy), "the policy")):
        for scenario in case.scenarios():
            requirements(scenario)
    assert len(platforms()) == 11


@pytest.mark.usefixtures("no_search")
def test_with_reboot_force_no_flush_helps() -> None:
    # linux 7.3.4 arch/x86/kernel/smp.c:155: native_stop_other_cpus() returns at once.
    assert not requirements(replace(KEXEC, stop=Stop.SKIPPED)).attainable


def test_what_the_kernel_at_hand_flushes_is_not_looked_at() -> None:
    assert requirements(KEXEC) == requirements(replace(KEXEC, flush_jumping=Flush.ALWAYS))
    assert requirements(KEXEC).needed == {Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL}
    assert requirements(KEXEC) == required_flushes(KEXEC)


@pytest.mark.parametrize(
    "other", [replace(KEXEC, offline=Offline.WOKEN), replace(KEXEC, secondaries=1)]
)
def test_other_handovers_are_searched(other: Scenario) -> None:
    assert requirements(other) == required_flushes(other)


def _with_flushes(scenario: Scenario) -> list[Scenario]:
    """The four ways in which its sites flush or do not."""
    return [
        replace(scenario, flush_secondary=secondary, flush_jumping=jumping)
        for secondary, jumping in product((Flush.NEVER, Flush.ALWAYS), repeat=2)
    ]


@pytest.mark.parametrize("path", Path)
@pytest.mark.parametrize("old", [True, False])
def test_the_table_calls_safe_what_the_search_does(path: Path, old: bool) -> None:
    handover = replace(KEXEC, path=path, old_encrypts=old, next_encrypts=True)
    for scenario in _with_flushes(handover):
        assert is_known_safe(scenario) is (check(scenario).counterexample is None)


@pytest.mark.parametrize("foreign", [ForeignLines.NONE, ForeignLines.SEV_GUESTS])
@pytest.mark.parametrize("incoherent", [True, False])
def test_without_a_flush_or_a_stop_the_order_of_the_report_makes_no_difference(
    foreign: ForeignLines, incoherent: bool
) -> None:
    early = replace(KEXEC, foreign=foreign, incoherent=incoherent, report=ReportOrder.BEFORE_FLUSH)
    unflushed = replace(early, flush_secondary=Flush.NEVER)
    for scenario in (unflushed, *_with_flushes(replace(early, stop=Stop.SKIPPED))):
        assert is_known_safe(scenario) is is_safe(scenario)


@pytest.mark.parametrize(
    "other",
    [
        replace(KEXEC, report=ReportOrder.BEFORE_FLUSH),
        replace(KEXEC, flush_jumping=Flush.AFTER_SEAMCALL),
        replace(KEXEC, left_by_jumping=LeftBehind.PLAIN),
        replace(KEXEC, offline=Offline.WOKEN),
        replace(KEXEC, secondaries=1),
    ],
)
def test_the_table_says_nothing_of_what_it_does_not_hold(other: Scenario) -> None:
    assert is_known_safe(KEXEC) is False
    assert is_known_safe(other) is None


def test_lines_of_some_roles_are_not_in_the_table() -> None:
    assert is_known_safe(KEXEC, frozenset({Role.IMAGE})) is None


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("policy", ["linux-4.14", "linux-6.18", "unconditional"])
def test_no_handover_is_searched_before_it_is_shown(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = list[Scenario]()

    def search(scenario: Scenario, roles: frozenset[Role] | None) -> bool:
        searched.append(scenario)
        return is_safe(scenario, roles)

    monkeypatch.setattr(judgement, "is_safe", search)
    judgement._is_safe.cache_clear()
    judged = [judge(case) for _, case in handovers_of(PolicyKernel(find(policy), "the policy"))]
    of_table = [one for one in judged if None not in map(is_known_safe, one.case.scenarios())]
    assert len(of_table) >= len(judged) / 2
    assert not [one for one in searched if is_known_safe(one) is not None]


@pytest.mark.parametrize("report", ReportOrder)
@pytest.mark.parametrize("stop", [Stop.COMPLETE, Stop.SKIPPED])
def test_the_table_names_the_property_that_a_shortest_counterexample_breaks(
    stop: Stop, report: ReportOrder
) -> None:
    for foreign, guest in ((ForeignLines.SEV_GUESTS, False), (ForeignLines.NONE, True)):
        handover = replace(KEXEC, next_encrypts=True, foreign=foreign, guest=guest, stop=stop)
        for scenario in _with_flushes(replace(handover, report=report)):
            if is_known_safe(scenario) is None:
                assert known_property(scenario) is None
            else:
                assert known_property(scenario) == check(scenario).property


def test_the_property_is_that_of_the_run_that_is_shown() -> None:
    judged = [judge(case) for _, case in handovers_of(PolicyKernel(find("linux-4.14"), "it"))]
    by_table = [one.broken for one in judged]
    assert {None, "P1"} < set(by_table)
    assert by_table == [one.answer.property if one.answer else None for one in judged]


def test_nothing_is_searched_to_say_that_what_is_safe_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = [judge(case) for _, case in handovers_of(PolicyKernel(find("unconditional"), "it"))]
    monkeypatch.setattr(judgement, "answer_to", lambda *_: pytest.fail("a search"))
    assert {one.broken for one in judged if one.verdict is Verdict.SAFE} == {None}

# SPDX-License-Identifier: GPL-2.0-or-later
"""Single scenarios: which property breaks, and with what story."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from staleline.check.answer import AnswerKind, check, is_safe
from staleline.check.requirements import required_flushes
from staleline.errors import ModelError
from staleline.model.scenario import Flush, ForeignLines, LeftBehind, Offline, ReportOrder
from staleline.model.state.lines import Role
from staleline.model.world import world
from tests.check.scenarios import TRANSITIONS, crash, kexec


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("foreign", ForeignLines)
def test_flushing_everywhere_is_safe(transition: str, foreign: ForeignLines) -> None:
    answer = check(kexec(transition, foreign=foreign))
    assert answer.property is None
    assert answer.counterexample is None
    assert answer.kind is not AnswerKind.COUNTEREXAMPLE


def test_reporting_before_the_flush_hands_over_too_early() -> None:
    # The defect that commit 1f5e7eb7868e (v6.5) fixed: the control CPU went on while
    # secondaries were still in WBINVD.
    answer = check(kexec("off→off", report=ReportOrder.BEFORE_FLUSH))
    assert answer.property == "P2"


def test_reporting_before_a_flush_that_never_comes_harms_nobody() -> None:
    scenario = kexec("off→off", report=ReportOrder.BEFORE_FLUSH, flush_secondary=Flush.NEVER)
    assert check(scenario).property is None


@pytest.mark.parametrize("site", ["flush_secondary", "flush_jumping"])
def test_wbinvd_in_a_guest_that_faults_on_it(site: str) -> None:
    # TDX guests get #VE, which nothing handles (v2 of the TDX kexec series, March 2024).
    quiet = {"flush_secondary": Flush.NEVER, "flush_jumping": Flush.NEVER}
    answer = check(
        kexec("on→on", incoherent=False, flush_faults=True, **(quiet | {site: Flush.ALWAYS}))
    )
    assert answer.property == "P3"


def test_a_guest_that_does_not_flush_is_safe() -> None:
    scenario = kexec(
        "on→on",
        incoherent=False,
        flush_faults=True,
        flush_secondary=Flush.NEVER,
        flush_jumping=Flush.NEVER,
    )
    assert check(scenario).property is None


def test_flushing_after_seamcalls_only_is_enough_for_tdx() -> None:
    # Commit 83214a775f33 (v6.18): per-CPU cache_state_incoherent.
    scenario = kexec(
        "off→off",
        foreign=ForeignLines.TDX,
        flush_secondary=Flush.AFTER_SEAMCALL,
        flush_jumping=Flush.AFTER_SEAMCALL,
    )
    assert check(scenario).property is None


def test_flushing_after_seamcalls_only_is_not_enough_for_sev_guests() -> None:
    scenario = kexec(
        "off→off",
        foreign=ForeignLines.SEV_GUESTS,
        flush_secondary=Flush.AFTER_SEAMCALL,
        flush_jumping=Flush.AFTER_SEAMCALL,
    )
    assert check(scenario).property == "P1"


def test_the_stop_mask_must_be_written_last_by_the_jumping_cpu() -> None:
    # Comment in 7.3 arch/x86/kernel/smp.c:238: each secondary dirties that line after its
    # flush, and the final store takes it away from them.
    assert check(kexec("on→off")).property is None
    answer = check(kexec("on→off", clears_stop_mask=False))
    assert answer.counterexample is not None
    assert answer.counterexample.line == "stop-mask"


def test_old_crash_kernel_load_without_a_flush_is_exposed() -> None:
    answer = check(crash("on→off", flush_at_load=False))
    assert answer.property == "P1"


def test_one_cpu_alone_is_a_handover_too() -> None:
    scenario = kexec("on→off", flush_jumping=Flush.NEVER, secondaries=0)
    answer = check(scenario)
    assert (answer.property, answer.cpus) == ("P1", 1)


def test_a_counterexample_has_no_cpu_that_it_does_not_need() -> None:
    answer = check(kexec("on→off", flush_secondary=Flush.NEVER, secondaries=4))
    assert answer.cpus == 2


def test_the_state_limit_is_named() -> None:
    with pytest.raises(ModelError, match=r"more than 50 states; raise `limit`"):
        check(kexec("on→off"), limit=50)


def test_a_counterexample_is_told_in_the_words_of_its_own_model() -> None:
    """Models that differ in words alone are explored once, whichever handover asked first."""
    broken = []
    for transition, foreign in product(TRANSITIONS, (ForeignLines.NONE, ForeignLines.SEV_GUESTS)):
        scenario = kexec(transition, foreign=foreign, flush_secondary=Flush.NEVER)
        told = check(scenario).counterexample
        if told is not None:
            assert told.scenario == scenario
            assert told.model in [model for _, model in world(scenario)]
            assert all(move.action in told.model.actions for move in told.run.moves)
            broken.append(told)
    assert len({told.model for told in broken}) > 2


@pytest.mark.parametrize("roles", [frozenset(), frozenset({Role.WORK_AREA})])
def test_nothing_is_proved_of_lines_that_do_not_exist(roles: frozenset[Role]) -> None:
    for ask in (check, is_safe, required_flushes):
        with pytest.raises(ModelError, match="no line of the role"):
            ask(kexec("on→off"), roles)


@pytest.mark.parametrize("secondaries", [0, 1, 2, 3])
@pytest.mark.parametrize("report", ReportOrder)
def test_what_is_called_safe_is_what_has_no_counterexample(
    report: ReportOrder, secondaries: int
) -> None:
    for offline, left in product(
        (Offline.NONE, Offline.STORES, Offline.WOKEN), (LeftBehind.NONE, LeftBehind.PLAIN)
    ):
        scenario = kexec("on→on", report=report, offline=offline, secondaries=secondaries)
        scenario = replace(scenario, left_by_secondary=left)
        assert is_safe(scenario) is (check(scenario).counterexample is None)

# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of events that breaks one rule, tried on another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.check.answer import check
from staleline.check.runs.follow import Followed, follow
from staleline.check.runs.trace import Counterexample
from staleline.model.scenario import Flush, ForeignLines, Scenario
from staleline.vocabulary import ReportOrder
from tests.check.scenarios import TRANSITIONS, kexec

NEITHER = {"flush_secondary": Flush.NEVER, "flush_jumping": Flush.NEVER}
BOTH = {"flush_secondary": Flush.ALWAYS, "flush_jumping": Flush.ALWAYS}


def broken(scenario: Scenario) -> Counterexample:
    found = check(scenario).counterexample
    assert found is not None
    return found


def followed(counterexample: Counterexample, scenario: Scenario) -> Followed:
    found = follow(counterexample, scenario)
    assert found is not None
    return found


def actions(found: Followed) -> list[list[str]]:
    return [[step.action for step in one.steps] for one in found.instead]


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_the_same_rule_takes_the_same_steps(transition: str) -> None:
    scenario = kexec(transition, **NEITHER)
    found = check(scenario).counterexample
    if found is None:
        assert transition == "off→off"
        return
    told = followed(found, scenario).instead
    assert [one.hindrance for one in told] == [""] * len(found.steps)
    for one, step in zip(told, found.steps, strict=True):
        (same,) = one.steps
        assert step.sentence.startswith(same.sentence)
        assert same.changes == step.changes


def test_where_the_run_skips_a_flush_the_other_rule_executes_it() -> None:
    # The WBINVD of stop_this_cpu writes back what destroys the image otherwise: linux 7.3
    # arch/x86/kernel/process.c:841.
    found = broken(kexec("on→off", **NEITHER))
    told = followed(found, kexec("on→off", **BOTH))
    skipped = [step.action for step in found.steps].index("secondary_halts_unflushed")
    assert actions(told)[skipped] == [
        "secondary_flush_begins",
        "secondary_writes_back_cbit",
        "secondary_halts_flushed",
    ]
    assert told.instead[-1].steps == ()
    assert told.instead[-1].hindrance == (
        "the C-bit entry of secondary 1 is “absent”, not “dirty, old”"
    )


def test_the_other_rule_may_break_a_property_in_the_same_order() -> None:
    # One flush less breaks on→off as none does; both do not.
    found = broken(kexec("on→off", **NEITHER))
    late = kexec("on→off", flush_secondary=Flush.NEVER, flush_jumping=Flush.ALWAYS)
    assert followed(found, late).broken == found.property == "P1"
    assert followed(found, kexec("on→off", **BOTH)).broken is None


def test_where_the_run_executes_a_flush_the_other_rule_skips_it() -> None:
    found = broken(kexec("on→off", flush_secondary=Flush.NEVER, flush_jumping=Flush.ALWAYS))
    told = followed(found, kexec("on→off", **NEITHER))
    begins = [step.action for step in found.steps].index("jumping_flush_begins")
    assert told.instead[begins].hindrance == "this rule has no such step"
    assert actions(told)[begins + 1] == ["jumping_skips_flush"]


def test_who_reports_after_the_flush_keeps_the_jumping_cpu_waiting() -> None:
    # Commit 1f5e7eb7868e (6.5) moved the report behind the WBINVD.
    scenario = kexec("on→on", **BOTH, report=ReportOrder.BEFORE_FLUSH)
    told = followed(broken(scenario), replace(scenario, report=ReportOrder.AFTER_FLUSH))
    assert [one.hindrance for one in told.instead[-2:]] == [
        "this rule has no such step",
        "secondary 1 is at “stopping”, not at “reported stopped”",
    ]


def test_a_line_that_does_not_exist_there_is_not_followed() -> None:
    found = broken(kexec("on→off", **NEITHER, foreign=ForeignLines.SEV_GUESTS))
    foreign = replace(found, line="foreign-page")
    assert follow(foreign, kexec("on→off", **BOTH)) is None


def test_other_names_of_aliases_are_not_followed() -> None:
    found = broken(kexec("on→off", **NEITHER))
    assert follow(found, kexec("on→off", **BOTH, incoherent=False)) is None

# SPDX-License-Identifier: GPL-2.0-or-later
"""Counterexamples as people read them."""

from __future__ import annotations

import json

import pytest

from staleline.check.answer import check
from staleline.check.runs.itf import itf_document
from staleline.check.runs.trace import Change, Counterexample
from staleline.model.scenario import Flush, ReportOrder, Scenario
from tests.check.scenarios import every_scenario, kexec


def _broken(scenario: Scenario) -> Counterexample:
    found = check(scenario).counterexample
    assert found is not None
    return found


@pytest.fixture(scope="module")
def stale_secondary() -> Counterexample:
    """The old kernel encrypts, the next does not, and secondaries do not flush."""
    return _broken(kexec("on→off", flush_secondary=Flush.NEVER))


def test_the_last_sentence_says_what_destroys_what(stale_secondary: Counterexample) -> None:
    assert stale_secondary.steps[-1].sentence == (
        "The cache of secondary 1 writes back its stale dirty C-bit entry of the image's "
        "destination line: it destroys what the next kernel wrote there through the plain alias."
    )


def test_steps_name_actor_and_kernel_function(stale_secondary: Counterexample) -> None:
    told = [(step.actor, step.function) for step in stale_secondary.steps]
    assert told == [
        ("secondary 1", "old kernel"),
        ("jumping CPU", "native_stop_other_cpus"),
        ("secondary 1", "stop_this_cpu"),
        ("secondary 1", "stop_this_cpu"),
        ("jumping CPU", "native_stop_other_cpus"),
        ("jumping CPU", "relocate_kernel"),
        ("jumping CPU", "relocate_kernel"),
        ("jumping CPU", "relocate_kernel"),
        ("jumping CPU", "cache"),
        ("secondary 1", "cache"),
    ]


def test_steps_show_what_changed_and_nothing_else(stale_secondary: Counterexample) -> None:
    assert stale_secondary.steps[0].changes == (
        Change("secondary 1", "C-bit", "absent", "dirty, old"),
    )
    assert stale_secondary.steps[-1].changes == (
        Change("secondary 1", "C-bit", "dirty, old", "absent"),
        Change("DRAM", "line", "next", "destroyed"),
    )


def test_a_flush_ahead_is_named() -> None:
    found = _broken(kexec("off→off", report=ReportOrder.BEFORE_FLUSH))
    assert found.steps[-1].sentence.endswith("Secondary 1 still has its flush ahead of it.")


def test_a_fault_is_named() -> None:
    found = _broken(kexec("on→on", incoherent=False, flush_faults=True))
    assert found.steps[-1].sentence == (
        "Secondary 1 executes WBINVD in stop_this_cpu, where it faults."
    )


def test_every_step_of_every_counterexample_is_a_finished_sentence_and_changes_something() -> None:
    # Sentences vary with role, transition and path; a fifth of the combinations has them all.
    some = every_scenario(1)[::5]
    found = [one for scenario in some if (one := check(scenario).counterexample)]
    assert found
    for step in (step for counterexample in found for step in counterexample.steps):
        assert step.sentence[0].isupper()
        assert step.sentence.endswith(".")
        assert "{" not in step.sentence
        assert step.changes


def test_itf_holds_every_state_with_the_action_that_led_to_it(
    stale_secondary: Counterexample,
) -> None:
    document = json.loads(json.dumps(itf_document(stale_secondary)))
    first, *_, last = document["states"]
    assert len(document["states"]) == len(stale_secondary.steps) + 1
    assert set(first) == {"#meta", *document["vars"]}
    assert first["secondaries"] == {
        "#map": [["secondary 1", {"pc": "running", "plain": "absent", "cbit": "absent"}]]
    }
    assert last["dram"] == "lost"
    assert last["#meta"]["actor"] == "secondary 1"
    assert last["#meta"]["action"] == "secondary_destroys_through_cbit"
    assert document["#meta"]["property"] == "P1"

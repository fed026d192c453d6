# SPDX-License-Identifier: GPL-2.0-or-later
"""Counterexamples executed again from their ITF documents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from staleline.check import check
from staleline.check.itf import itf_document
from staleline.check.replay import replay
from staleline.errors import ModelError
from staleline.model.scenario import Flush
from tests.check.scenarios import every_scenario, kexec


def _document() -> dict[str, Any]:
    found = check(kexec("on→off", flush_secondary=Flush.NEVER)).counterexample
    assert found is not None
    document = json.loads(json.dumps(itf_document(found)))
    assert isinstance(document, dict)
    return document


def test_every_counterexample_can_be_executed_again() -> None:
    found = [one for s in every_scenario(1)[::5] if (one := check(s).counterexample)]
    assert found
    for counterexample in found:
        document = json.loads(json.dumps(itf_document(counterexample)))
        assert replay(document) == counterexample


def test_a_changed_value_is_noticed_at_its_state() -> None:
    document = _document()
    document["states"][2]["jumping_plain"] = "dirty"
    with pytest.raises(ModelError, match="ITF document, state 2"):
        replay(document)


def test_a_changed_actor_is_noticed() -> None:
    document = _document()
    document["states"][1]["#meta"]["actor"] = "secondary 7"
    with pytest.raises(ModelError, match="by secondary 7 does not lead here"):
        replay(document)


def test_a_trace_that_breaks_nothing_is_refused() -> None:
    document = _document()
    document["states"].pop()
    with pytest.raises(ModelError, match="the last state does not break P1"):
        replay(document)


def test_a_trace_without_states_is_refused() -> None:
    document = _document()
    document["states"].clear()
    with pytest.raises(ModelError, match="not a trace of a handover"):
        replay(document)


def test_another_start_is_refused() -> None:
    document = _document()
    document["states"].pop(0)
    with pytest.raises(ModelError, match="the first state is not the initial one"):
        replay(document)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"#meta": {}, "states": []},
        {"#meta": {"scenario": {"path": "by boat"}}, "states": []},
        {"#meta": [], "states": {}},
    ],
)
def test_other_json_is_refused_in_one_line(document: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="ITF document: not a trace of a handover"):
        replay(document)

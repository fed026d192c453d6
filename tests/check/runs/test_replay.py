# SPDX-License-Identifier: GPL-2.0-or-later
"""Counterexamples executed again from their ITF documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from staleline.check.answer import check
from staleline.check.runs.itf import itf_document
from staleline.check.runs.replay import MAX_BYTES, read_trace, replay
from staleline.errors import ModelError
from staleline.model.scenario import Flush, ReportOrder
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


def test_a_trace_without_a_step_is_refused_even_where_nothing_has_to_happen() -> None:
    """Where WBINVD faults at both sites, the next kernel is out of reach from the start."""
    faulted = check(kexec("on→on", incoherent=False, flush_faults=True)).counterexample
    assert faulted is not None
    document = json.loads(json.dumps(itf_document(faulted)))
    document["#meta"]["property"] = "P4"
    del document["states"][1:]
    with pytest.raises(ModelError, match=r"not a trace of a handover \(no step\)"):
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
        [],
        None,
        {"#meta": {"schema": "staleline/trace/9"}, "states": [{}]},
    ],
)
def test_other_json_is_refused_in_one_line(document: Any) -> None:
    with pytest.raises(ModelError, match="ITF document: not a trace of a handover"):
        replay(document)


def test_a_trace_of_another_model_is_refused() -> None:
    document = _document()
    document["#meta"]["scenario"]["report"] = str(ReportOrder.BEFORE_FLUSH)
    with pytest.raises(ModelError, match="the model has changed since"):
        replay(document)


def test_a_reworded_sentence_is_no_other_model() -> None:
    document = _document()
    for state in document["states"][1:]:
        state["#meta"]["sentence"] = "Something happens."
    assert replay(document).property == "P1"


def test_a_hang_is_shown_by_what_cannot_follow() -> None:
    faulted = check(kexec("on→on", incoherent=False, flush_faults=True)).counterexample
    assert faulted is not None
    document = json.loads(json.dumps(itf_document(faulted)))
    document["#meta"]["property"] = "P4"
    assert replay(document).property == "P4"
    document = _document()
    document["#meta"]["property"] = "P4"
    with pytest.raises(ModelError, match="the last state does not break P4"):
        replay(document)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("path", "by boat", "path cannot be 'by boat'"),
        ("path", ["kexec"], "path cannot be a list or object"),
        ("incoherent", 1, "incoherent cannot be 1"),
        ("secondaries", 10**30, "secondaries cannot be 1000"),
        ("secondaries", True, "secondaries cannot be True"),
        ("weather", "fair", "'weather' is no parameter"),
    ],
)
def test_a_scenario_that_is_none_is_refused(name: str, value: object, says: str) -> None:
    document = _document()
    document["#meta"]["scenario"][name] = value
    with pytest.raises(ModelError, match=says):
        replay(document)


def test_more_secondaries_than_any_counterexample_has_are_refused() -> None:
    document = _document()
    document["states"][0]["secondaries"]["#map"] *= 1000
    with pytest.raises(ModelError, match="more than 64 secondaries"):
        replay(document)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b" " * (MAX_BYTES + 1), "larger than 4 MiB"),
    ],
)
def test_files_that_are_no_traces(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "bad.itf.json"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=says):
        read_trace(file)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("/dev/zero", "is neither a file nor a pipe"),
        ("absent", "cannot be read"),
        ("a\0b", "is not a path"),
    ],
)
def test_what_is_no_file(file: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        read_trace(file)

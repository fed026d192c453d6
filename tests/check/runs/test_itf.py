# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces of counterexamples follow their published schema, staleline/trace/1."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from staleline.check.answer import check
from staleline.check.meaning.scenario_json import MAX_SECONDARIES, parameters
from staleline.check.runs.itf import SCHEMA, itf_document
from staleline.model.scenario import Flush
from tests.check.scenarios import every_scenario, kexec


@cache
def schema() -> jsonschema.Draft202012Validator:
    text = files("staleline").joinpath("schemas/trace-1.json").read_text()
    return jsonschema.Draft202012Validator(json.loads(text))


def trace() -> dict[str, Any]:
    found = check(kexec("on→off", flush_secondary=Flush.NEVER)).counterexample
    assert found is not None
    document: dict[str, Any] = json.loads(json.dumps(itf_document(found)))
    return document


def test_every_counterexample_follows_the_schema() -> None:
    found = [one for s in every_scenario(1)[::5] if (one := check(s).counterexample)]
    assert len({one.property for one in found}) > 1
    for counterexample in found:
        document = json.loads(json.dumps(itf_document(counterexample)))
        schema().validate(document)
        assert all(list(state)[1:] == document["vars"] for state in document["states"])


def test_the_schema_knows_every_parameter_of_a_scenario_and_its_values() -> None:
    whole = schema().schema
    assert isinstance(whole, Mapping)
    meta = whole["properties"]["#meta"]["properties"]
    known = meta["scenario"]["properties"]
    assert meta["schema"]["const"] == SCHEMA
    assert meta["scenario"]["required"] == list(known) == list(parameters())
    for name, kind in parameters().items():
        if issubclass(kind, StrEnum):
            assert known[name] == {"enum": [str(value) for value in kind]}
        elif kind is bool:
            assert known[name] == {"type": "boolean"}
        else:
            assert known[name] == {"type": "integer", "minimum": 0, "maximum": MAX_SECONDARIES}


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document["#meta"].pop("model"),
        lambda document: document["#meta"]["scenario"].update(path="by boat"),
        lambda document: document["vars"].remove("secondaries"),
        lambda document: document["states"][0]["#meta"].update(action="stop_request"),
        lambda document: document["states"][1]["#meta"].pop("sentence"),
        lambda document: document["states"][1]["#meta"].update(actor="somebody"),
        lambda document: document["states"][2].update(dram=1),
        lambda document: document["states"][2]["secondaries"]["#map"][0].pop(),
        lambda document: document.update(more=1),
    ],
    ids=["model", "path", "vars", "first", "sentence", "actor", "value", "secondary", "more"],
)
def test_what_is_no_trace_does_not(damage: Callable[[dict[str, Any]], object]) -> None:
    document = trace()
    schema().validate(document)
    damage(document)
    assert not schema().is_valid(document)

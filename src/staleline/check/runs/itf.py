# SPDX-License-Identifier: GPL-2.0-or-later
"""Counterexamples as ITF, the JSON trace format that model checkers and viewers share."""

from __future__ import annotations

from typing import Any

from staleline.check.meaning.fingerprint import fingerprint
from staleline.check.meaning.interpreter import State
from staleline.check.meaning.scenario_json import scenario_document
from staleline.check.runs.trace import Counterexample
from staleline.model.form import Model

__all__ = ["SCHEMA", "SECONDARIES", "itf_document", "itf_values"]

#: Name of the form of what this tool adds to the document's ``#meta``.
SCHEMA = "staleline/trace/1"

#: The variable that maps each secondary's name to a record of its local variables.
SECONDARIES = "secondaries"


def itf_document(counterexample: Counterexample) -> dict[str, Any]:
    """A counterexample as an ITF document (informal trace format, Apalache ADR 015).

    Each state but the first has the action that led to it in its ``#meta``: name, acting
    CPU, kernel function, source and sentence. The document's own ``#meta`` has the scenario
    and a hash of the model, so that `replay` can execute it again, or say that it cannot.
    """
    model = counterexample.model
    return {
        "#meta": {
            "format": "ITF",
            "schema": SCHEMA,
            "description": f"{model.title}: {counterexample.property} broken",
            "property": counterexample.property,
            "title": counterexample.title,
            "line": counterexample.line,
            "scenario": scenario_document(counterexample.scenario),
            "model": fingerprint(model),
        },
        "vars": [*(variable.name for variable in model.globals), SECONDARIES],
        "states": [
            {"#meta": _meta(counterexample, index), **itf_values(model, state)}
            for index, state in enumerate(counterexample.run.states)
        ],
    }


def _meta(counterexample: Counterexample, index: int) -> dict[str, Any]:
    if index == 0:
        return {"index": 0}
    step = counterexample.steps[index - 1]
    return {
        "index": index,
        "action": step.action,
        "actor": step.actor,
        "function": step.function,
        "source": step.source,
        "sentence": step.sentence,
    }


def itf_values(model: Model, state: State) -> dict[str, Any]:
    """The variables of one state."""
    shared, locals_ = state
    records = [[f"secondary {i}", _record(model, local)] for i, local in enumerate(locals_, 1)]
    return {
        **dict(zip((variable.name for variable in model.globals), shared, strict=True)),
        SECONDARIES: {"#map": records},
    }


def _record(model: Model, local: tuple[str, ...]) -> dict[str, str]:
    return dict(zip((variable.name for variable in model.locals), local, strict=True))

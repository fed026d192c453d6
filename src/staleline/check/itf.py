# SPDX-License-Identifier: GPL-2.0-or-later
"""Counterexamples as ITF, the JSON trace format that model checkers and viewers share."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from staleline.check.interpreter import State
from staleline.check.trace import Counterexample
from staleline.model.form import Model

__all__ = ["SECONDARIES", "itf_document"]

#: The variable that maps each secondary's name to a record of its local variables.
SECONDARIES = "secondaries"


def itf_document(counterexample: Counterexample) -> dict[str, Any]:
    """A counterexample as an ITF document (informal trace format, Apalache ADR 015).

    Each state but the first has the action that led to it in its ``#meta``: name, acting
    CPU, kernel function, source and sentence. The document's own ``#meta`` has the scenario,
    so that `replay` can execute it again.
    """
    model = counterexample.model
    return {
        "#meta": {
            "format": "ITF",
            "description": f"{model.title}: {counterexample.property} broken",
            "property": counterexample.property,
            "title": counterexample.title,
            "line": counterexample.line,
            "scenario": asdict(counterexample.scenario),
        },
        "vars": [*(variable.name for variable in model.globals), SECONDARIES],
        "states": [
            {"#meta": _meta(counterexample, index), **_values(counterexample, state)}
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


def _values(counterexample: Counterexample, state: State) -> dict[str, Any]:
    model = counterexample.model
    shared, locals_ = state
    names = counterexample.cpus[1:]
    records = [[name, _record(model, local)] for name, local in zip(names, locals_, strict=True)]
    return {
        **dict(zip((variable.name for variable in model.globals), shared, strict=True)),
        SECONDARIES: {"#map": records},
    }


def _record(model: Model, local: tuple[str, ...]) -> dict[str, str]:
    return dict(zip((variable.name for variable in model.locals), local, strict=True))

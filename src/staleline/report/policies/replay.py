# SPDX-License-Identifier: GPL-2.0-or-later
"""A replayed counterexample as ``staleline/replay/1``."""

from __future__ import annotations

from typing import Any

from staleline.check.meaning.fingerprint import fingerprint
from staleline.check.meaning.scenario_json import scenario_document
from staleline.check.runs.trace import Counterexample

__all__ = ["replay_document"]


def replay_document(counterexample: Counterexample) -> dict[str, Any]:
    """The JSON document of one replayed counterexample."""
    return {
        "schema": "staleline/replay/1",
        "property": counterexample.property,
        "line": counterexample.line,
        "scenario": scenario_document(counterexample.scenario),
        "model": fingerprint(counterexample.model),
        "cpus": list(counterexample.cpus),
        "steps": [
            {
                "actor": step.actor,
                "action": step.action,
                "function": step.function,
                "source": step.source,
                "sentence": step.sentence,
            }
            for step in counterexample.steps
        ],
    }

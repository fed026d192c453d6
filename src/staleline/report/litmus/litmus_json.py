# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kit measured as ``staleline/litmus/1``."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

from staleline.litmus.results import AskedTest, FlushDurations, LitmusResult

__all__ = ["aliases_document", "litmus_document"]


def litmus_document(result: LitmusResult) -> dict[str, Any]:
    """The JSON document."""
    machine = asdict(result.machine)
    return {
        "schema": "staleline/litmus/1",
        **aliases_document(result),
        "contradicts_cpuid": result.contradicts_cpuid,
        "machine": {**machine, "sme_leaf": list(result.machine.sme_leaf)},
        "tests": [_test(test) for test in result.tests],
        "skipped": dict(result.skipped),
        "wbinvd": [_durations(one) for one in result.durations if one.nanoseconds],
    }


def aliases_document(result: LitmusResult) -> dict[str, Any]:
    """What it comes to, beside what CPUID says; in an audit as well."""
    return {
        "aliases": str(result.aliases),
        "why_not": result.machine.refused or result.why_not_measured,
        "asked": result.asked,
        "starred": result.starred,
        "destroyed": result.destroyed,
        "cpuid_says_coherent": result.machine.says_coherent,
    }


def _test(test: AskedTest) -> dict[str, Any]:
    return {
        "test": test.name,
        "a": test.a,
        "relation": test.relation,
        "x": test.x,
        "y": test.y,
        "outcomes": [asdict(outcome) for outcome in test.outcomes],
        "destroyed": test.destroyed,
    }


def _durations(durations: FlushDurations) -> dict[str, Any]:
    return {
        "cpu": durations.cpu,
        "dirty_kb": durations.dirty_kb,
        "times": len(durations.nanoseconds),
        "least_ns": min(durations.nanoseconds),
        "median_ns": median(durations.nanoseconds),
        "most_ns": max(durations.nanoseconds),
    }

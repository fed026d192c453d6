# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet as JSON: ``staleline/fleet-audit/1`` and ``staleline/fleet-diff/1``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from staleline.fleet.asked import ASKED
from staleline.fleet.changes import Changes
from staleline.fleet.gains import Gain
from staleline.report.fleets.overview import FleetOverview, how_to_get, title_of

__all__ = ["changes_document", "fleet_document", "gain_documents", "pairs_document"]


def fleet_document(overview: FleetOverview) -> dict[str, Any]:
    """Everything; rows of hosts where there are few enough to be looked at."""
    return {
        "schema": "staleline/fleet-audit/1",
        "fleet": overview.fleet,
        "asked": {
            "kernel": overview.kernel,
            "next": overview.following,
            "append": overview.append,
            "max_age": overview.max_age,
            "now": overview.now,
        },
        "verdict": overview.verdict.value,
        "hosts": overview.hosts,
        "counts": dict(overview.counts),
        "groups": [_group(row) for row in overview.groups],
        "by": {name: [_owners(row) for row in rows] for name, rows in overview.by.items()},
        "missing": gain_documents(overview.gains),
        "faults": [asdict(fault) for fault in overview.faults],
        "told_again": {
            "hosts": overview.again_count,
            "shown": [asdict(one) for one in overview.again],
        },
        "doubtful_times": overview.doubtful,
        "cost": {"flush_ms": overview.flush_ms, "hosts_unknown": overview.flush_unknown},
        "classes": {
            str(number): dict(zip(ASKED, values, strict=True))
            for number, values in sorted(overview.classes.items())
        },
        "rows": None if overview.rows is None else [_row(row) for row in overview.rows],
    }


def _group(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("verdict", "release", "model", "rule", "kernel_evidence", "broken", "flush_ms")
    return {**{name: row[name] for name in names}, "hosts": int(row["hosts"])}


def _owners(row: Mapping[str, Any]) -> dict[str, Any]:
    counts = {key: int(row[key]) for key in ("hosts", "at_risk", "unknown", "safe")}
    return {"value": row["value"], **counts, "flush_ms": row["flush_ms"]}


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """With the class as a text: JSON's numbers are not exact beyond 2^53."""
    return {**row, "class": None if row["class"] is None else str(row["class"])}


def gain_documents(found: Sequence[Gain]) -> list[dict[str, Any]]:
    """What is missing, the most valuable first, and how to get it."""
    return [{**asdict(one), "title": title_of(one.id), "do": how_to_get(one.id)} for one in found]


def changes_document(changes: Changes) -> dict[str, Any]:
    """What changed between two results."""
    return {
        "schema": "staleline/fleet-diff/1",
        "hosts": {"old": changes.old, "new": changes.new},
        "asked": {"old": dict(changes.asked[0]), "new": dict(changes.asked[1])},
        "worse": changes.worse,
        "changes": [
            {**asdict(one), "by": list(one.by), "examples": list(one.examples), "worse": one.worse}
            for one in changes.changed
        ],
    }


def pairs_document(pairs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Hosts by old kernel and next one."""
    return {
        "schema": "staleline/fleet-pairs/1",
        "pairs": [
            {
                "next": following,
                "release": row["release"],
                "rule": row["rule"],
                **{name: int(row[name]) for name in ("hosts", "at_risk", "unknown", "safe")},
            }
            for following, rows in pairs.items()
            for row in rows
        ],
    }

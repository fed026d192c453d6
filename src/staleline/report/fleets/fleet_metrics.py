# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet as Prometheus metrics: counts, with labels that stay few whatever the fleet."""

from __future__ import annotations

import shlex
from collections import Counter

from staleline.report.fleets.overview import FleetOverview
from staleline.report.formats.prometheus import Metric, metrics_text

__all__ = ["fleet_metrics"]


def fleet_metrics(overview: FleetOverview) -> str:
    """All metrics in the text exposition format 0.0.4."""
    # Without CPUs, each of which would make a series of every release and rule.
    by_kernel: Counter[tuple[str, str, str]] = Counter()
    for row in overview.groups:
        key = row["verdict"], row["release"] or "unknown", row["rule"] or "unknown"
        by_kernel[key] += int(row["hosts"])
    asked = {"what_if": overview.kernel or "", "next": overview.following}
    # Of another question each sample would be the same one, which collectors refuse.
    if overview.append is not None:
        asked["append"] = shlex.quote(overview.append)
    if overview.max_age is not None:
        asked["max_age"] = str(overview.max_age)
    return metrics_text(
        (
            Metric(
                "staleline_fleet_hosts",
                "Hosts by verdict; what could not be read is unknown.",
                [(asked | {"verdict": name}, n) for name, n in overview.counts.items()],
            ),
            Metric(
                "staleline_fleet_kernel_hosts",
                "Hosts by verdict, kernel release and rule.",
                [
                    (asked | {"verdict": verdict, "release": release, "rule": rule}, n)
                    for (verdict, release, rule), n in sorted(by_kernel.items())
                ],
            ),
            Metric(
                "staleline_fleet_group_hosts",
                "Hosts by a column of the inventory, and by verdict.",
                [
                    (
                        # Without a value, which is told from every one that a host may have.
                        asked | {"column": name, "value": row["value"] or "", "verdict": verdict},
                        int(row[key]),
                    )
                    for name, rows in overview.by.items()
                    for row in rows
                    for verdict, key in _COUNTED.items()
                ],
            ),
            Metric(
                "staleline_fleet_missing_hosts",
                "Hosts of which something is missing (staleline explain ID).",
                [(asked | {"id": one.id}, one.hosts) for one in overview.gains],
            ),
            Metric(
                "staleline_fleet_settled_hosts",
                "Hosts that getting it would settle for certain.",
                [(asked | {"id": one.id}, one.settled) for one in overview.gains],
            ),
            Metric(
                "staleline_fleet_faults",
                "Records that could not be read.",
                [(asked, len(overview.faults))],
            ),
            Metric(
                "staleline_fleet_told_again_hosts",
                "Hosts that were told more than once.",
                [(asked, overview.again_count)],
            ),
            Metric(
                "staleline_fleet_flush_seconds",
                "What the flushes of a kexec of every host likely take, added up.",
                [(asked, overview.flush_ms / 1000)],
            ),
            Metric(
                "staleline_fleet_last_run_timestamp_seconds",
                "When this was asked, in seconds since 1970.",
                [(asked, overview.now)],
            ),
        )
    )


_COUNTED = {"at-risk": "at_risk", "unknown": "unknown", "safe": "safe"}

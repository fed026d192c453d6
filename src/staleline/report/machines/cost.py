# SPDX-License-Identifier: GPL-2.0-or-later
"""What flushes cost, as lines of a report and as the ``cost`` of ``staleline/audit/1``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.padding import Padding

from staleline.report.words.console import markup_escape
from staleline.verdict.audit.cost import Cost, FlushCost, PathCost

__all__ = ["cost_fields", "cost_lines", "print_cost"]

# Caches are sized in powers of two, and memory's bandwidth in powers of ten.
_MEGA = 1 << 20
_GIGA = 1_000_000_000


def print_cost(console: Console, cost: Cost) -> None:
    """The same lines under a heading; nothing if nothing is flushed."""
    lines = cost_lines(cost)
    if lines:
        console.print()
        console.print("[bold]Cost of the flushes[/]")
    for line in lines:
        console.print(Padding(markup_escape(line), (0, 0, 0, 2), expand=False))


def cost_lines(cost: Cost) -> list[str]:
    """A line per path, and one that says what they rest on; none if nothing is flushed."""
    lines = [line for path in cost.paths for line in _path_line(path)]
    return [*lines, _basis(cost)] if lines else []


def _path_line(path: PathCost) -> Iterator[str]:
    parts = [
        f"{who}: {_flush_words(flush)}"
        for who, flush in (
            ("all other CPUs at once", path.secondaries),
            ("the jumping CPU", path.jumping_cpu),
        )
        if flush.executed is not False
    ]
    if parts:
        yield f"{path.path}: {'; then '.join(parts)}"


def _flush_words(flush: FlushCost) -> str:
    words = []
    if flush.at_least is not None:
        words.append(f"{_milliseconds(flush.at_least)} at least")
    if flush.likely is not None:
        words.append(f"{_milliseconds(flush.likely)} likely")
    if flush.measured is not None:
        words.append(f"{_milliseconds(flush.measured)} measured")
    if flush.unneeded:
        words.append("unneeded")
    if flush.executed is None:
        words.append("if it is executed")
    return ", ".join(words) or "WBINVD"


def _basis(cost: Cost) -> str:
    if cost.unbounded is not None or cost.capacity is None:
        return f"no times: {cost.unbounded}"
    return (
        f"if all of {cost.capacity.socket / _MEGA:.0f} MB of L2 and L3 per socket is dirty, and of "
        f"{cost.capacity.jumping_cpu / _MEGA:.1f} MB for one CPU, at "
        f"{cost.bandwidth.bytes_per_second / _GIGA:.1f} GB/s ({cost.bandwidth.source})"
    )


def _milliseconds(seconds: float) -> str:
    # Bounds of this kind have no third digit.
    return f"{seconds * 1000:.2g} ms"


def cost_fields(cost: Cost) -> dict[str, Any]:
    """What ``cost`` holds beside the number of WBINVDs; times in milliseconds."""
    capacity, measured = cost.capacity, cost.measured
    return {
        "paths": {
            str(path.path): {
                "secondaries": _flush_fields(path.secondaries),
                "jumping_cpu": _flush_fields(path.jumping_cpu),
            }
            for path in cost.paths
        },
        "dirty_at_most": capacity
        and {
            "socket_bytes": capacity.socket,
            "jumping_cpu_bytes": capacity.jumping_cpu,
            "source": capacity.source,
        },
        "bandwidth": {
            "bytes_per_second": cost.bandwidth.bytes_per_second,
            "assumed": cost.bandwidth.assumed,
            "source": cost.bandwidth.source,
        },
        "measured_events": measured and measured.events,
        "unbounded": cost.unbounded,
    }


def _flush_fields(flush: FlushCost) -> dict[str, Any]:
    return {
        "site": flush.site,
        "executed": flush.executed,
        "unneeded": flush.unneeded,
        "at_least_ms": _rounded(flush.at_least),
        "likely_ms": _rounded(flush.likely),
        "measured_ms": _rounded(flush.measured),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 4)

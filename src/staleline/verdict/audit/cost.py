# SPDX-License-Identifier: GPL-2.0-or-later
"""What the flushes of a handover cost on a machine, as bounds from its caches and memory.

docs/cost.md has the formula, and how to measure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from staleline.facts import MachineFacts
from staleline.facts.capacity import CacheCapacity
from staleline.verdict.audit.audit import Audit, Handover
from staleline.verdict.audit.measured import Measured
from staleline.vocabulary import Path, Site

__all__ = [
    "Bandwidth",
    "Cost",
    "FlushCost",
    "PathCost",
    "Times",
    "bandwidth_of",
    "cost",
    "flush_times",
]

_TRANSFER_BYTES = 8

#: (at least, likely), in seconds; None where they cannot be bounded.
Times = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Peak memory bandwidth of one socket.

    Attributes:
        bytes_per_second: That much.
        cluster_bytes_per_second: What one L3 and the cores beside it get of it; None for all.
        source: Where it is from, as a phrase.
        assumed: Neither given nor that of this CPU.
    """

    bytes_per_second: float
    cluster_bytes_per_second: float | None
    source: str
    assumed: bool


@dataclass(frozen=True, slots=True)
class FlushCost:
    """One site's flush; times are in seconds, None where they cannot be bounded.

    Attributes:
        site: Where.
        executed: WBINVD is executed there; None if the handovers differ or it is not known.
        unneeded: In every handover in which it is executed no stale line required it.
        at_least: For caches that are dirty throughout, at peak bandwidth; None if that is assumed.
        likely: The same at the share of it that write-backs reach.
        measured: On this machine.
    """

    site: Site
    executed: bool | None
    unneeded: bool
    at_least: float | None
    likely: float | None
    measured: float | None


@dataclass(frozen=True, slots=True)
class PathCost:
    """One path: the secondaries flush all at once, then the jumping CPU by itself."""

    path: Path
    secondaries: FlushCost
    jumping_cpu: FlushCost


@dataclass(frozen=True, slots=True)
class Cost:
    """What the flushes cost, and what that rests on.

    Attributes:
        paths: Each path of the audit.
        capacity: What can be dirty; None where the evidence does not tell.
        bandwidth: Of a socket.
        measured: What was measured, if anything.
        unbounded: Why there are no times; None if there are.
    """

    paths: tuple[PathCost, ...]
    capacity: CacheCapacity | None
    bandwidth: Bandwidth
    measured: Measured | None
    unbounded: str | None


def cost(
    audit: Audit,
    capacity: CacheCapacity | None,
    bandwidth: Bandwidth,
    measured: Measured | None = None,
) -> Cost:
    """Bound the flushes of every path of an audit.

    Args:
        audit: Which flushes are executed, and which of them are needed.
        capacity: What can be dirty.
        bandwidth: At which rate it can be written.
        measured: Durations of WBINVD on this machine, if somebody measured them.
    """
    unbounded = _why_unbounded(audit.facts, capacity)
    # Nothing but the number of dirty lines decides how long WBINVD takes, and nobody knows it
    # beforehand; so the figures are for caches that are dirty throughout.
    times = flush_times(None if unbounded else capacity, bandwidth)
    paths = tuple(
        _path_cost([row for row in audit.handovers if row.path is path], times, measured)
        for path in audit.by_path
    )
    return Cost(paths, capacity, bandwidth, measured, unbounded)


def bandwidth_of(facts: MachineFacts, given: float | None = None) -> Bandwidth:
    """As given, in bytes per second; else by the table of CPUs, else as assumed there."""
    if given is not None:
        return Bandwidth(given, None, "given by you", assumed=False)
    row = next((row for row in _table()["memory"] if _is(facts, row)), None)
    chosen = row or _table()["assumed"]
    memory = f"{chosen['channels']} channels at {chosen['mega_transfers']} MT/s"
    source = f"{row['cpu']}: {memory}" if row else f"this CPU is in no table: {memory} assumed"
    cluster = _table()["fabric_bytes_per_second"] if chosen.get("fabric") else None
    return Bandwidth(_peak(chosen), cluster, source, assumed=row is None)


def _is(facts: MachineFacts, row: Mapping[str, Any]) -> bool:
    if (facts.text("vendor"), facts.integer("family")) != (row["vendor"], row["family"]):
        return False
    # Not every row is of some steppings alone; what nothing tells is in none of them.
    bounds = (("model", row["models"]), ("stepping", row.get("steppings")))
    told = ((facts.integer(name), *bound) for name, bound in bounds if bound is not None)
    return all(value is not None and low <= value <= high for value, low, high in told)


def _peak(row: Mapping[str, Any]) -> float:
    return float(row["channels"] * _TRANSFER_BYTES * row["mega_transfers"] * 1_000_000)


def _why_unbounded(facts: MachineFacts, capacity: CacheCapacity | None) -> str | None:
    hypervisor = facts.boolean("hypervisor")
    if hypervisor or hypervisor is None:
        unless = "" if hypervisor else ", and whether this is one is not known"
        return f"in a guest WBINVD costs what the hypervisor makes of it{unless}"
    if capacity is None:
        return "the caches are not known: dump CPUID with `cpuid -r`, or run staleline collect"
    return None


def _path_cost(
    rows: Sequence[Handover], times: Mapping[str, Times], measured: Measured | None
) -> PathCost:
    path = rows[0].path
    all_cpus, one_cpu = (None, None) if measured is None else (measured.all_cpus, measured.one_cpu)
    return PathCost(
        path=path,
        secondaries=_flush_cost(rows, path.secondaries_site, times["socket"], all_cpus),
        jumping_cpu=_flush_cost(rows, Site.RELOCATE_KERNEL, times["jumping_cpu"], one_cpu),
    )


def _flush_cost(
    rows: Sequence[Handover], site: Site, times: Times, measured: float | None
) -> FlushCost:
    flushes = {row.flushes[site] for row in rows}
    # A flush that one handover needs, or may, is not spared by those that do not.
    executing = [row for row in rows if row.flushes[site] is not False]
    at_least, likely = times
    return FlushCost(
        site=site,
        executed=flushes.pop() if len(flushes) == 1 else None,
        unneeded=bool(executing) and all(site in row.unneeded for row in executing),
        at_least=at_least,
        likely=likely,
        measured=measured,
    )


def flush_times(capacity: CacheCapacity | None, bandwidth: Bandwidth) -> Mapping[str, Times]:
    """(at least, likely) of WBINVD, for a whole ``socket`` and for the ``jumping_cpu`` alone."""
    if capacity is None:
        return {"socket": (None, None), "jumping_cpu": (None, None)}
    peak = bandwidth.bytes_per_second
    writes = peak * _table()["likely_share"]
    cluster = bandwidth.cluster_bytes_per_second or writes
    # All CPUs flush at once, and share the memory's bandwidth: the socket takes as long as that
    # lets it, or as the fabric lets its slowest cluster. One CPU has all of both to itself.
    likely = {
        "socket": max(capacity.socket / writes, capacity.cluster / cluster),
        "jumping_cpu": capacity.jumping_cpu / min(writes, cluster),
    }
    # An assumed peak bounds nothing: this host's may be higher.
    at_least = {
        "socket": None if bandwidth.assumed else capacity.socket / peak,
        "jumping_cpu": None if bandwidth.assumed else capacity.jumping_cpu / peak,
    }
    return {what: (at_least[what], likely[what]) for what in likely}


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(files(__package__).joinpath("cost.toml").read_text("utf-8"))

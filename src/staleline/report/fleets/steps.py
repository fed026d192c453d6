# SPDX-License-Identifier: GPL-2.0-or-later
"""What to do next with a fleet, the same on a terminal and on a page; commands can be pasted."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from staleline.fleet.gains import Gain
from staleline.report.fleets.overview import (
    FleetOverview,
    counted_as,
    how_to_get,
    settling,
    title_of,
)
from staleline.vocabulary import Verdict

__all__ = ["next_steps"]


def next_steps(overview: FleetOverview, most_gains: int | None = None) -> Iterator[str]:
    """Sentences, the most pressing first; commands stand between backquotes.

    Args:
        overview: The fleet.
        most_gains: So many of what is missing; None for all.
    """
    fleet = shlex.quote(overview.fleet)
    if not overview.hosts:
        yield f"There is no host. Add evidence: `staleline fleet add SOURCE --into {fleet}`"
        return
    yield from _at_risk(overview, fleet)
    valuable = [gain for gain in overview.gains if gain.settled or gain.perhaps]
    for gain in valuable[:most_gains]:
        yield _gain_line(gain)
    unread = len(overview.faults)
    open_hosts = overview.counts[Verdict.UNKNOWN] - unread
    if open_hosts > 0 and not valuable:
        yield (
            f"No single fact settles the {counted_as(open_hosts, 'unknown host')}: "
            f"`staleline fleet missing {fleet}` lists all"
        )
    if unread:
        yield f"Could not be read: {counted_as(unread, 'record')}. Collect them again."
    if overview.trapping:
        yield (
            f"A WBINVD traps on {counted_as(overview.trapping, 'host')}, and the handover ends "
            "there: `staleline explain flush-faults`"
        )
    if overview.verdict is Verdict.SAFE and not overview.trapping:
        yield "Nothing: every host is safe"


def _at_risk(overview: FleetOverview, fleet: str) -> Iterator[str]:
    hosts = overview.counts[Verdict.AT_RISK]
    if not hosts:
        return
    broken = (row["broken"] for row in overview.groups if row["verdict"] == Verdict.AT_RISK)
    ways = sorted({one for words in broken for one in words.split(",")} - {""})
    which = f" ({', '.join(ways)})" if ways else ""
    # Each is of a path, as `kexec:P1`.
    names = sorted({way.rpartition(":")[2].lower() for way in ways})
    why = f", `staleline explain {' '.join(names)}` why" if names else ""
    yield (
        f"At risk{which}: {counted_as(hosts, 'host')}. Boot a kernel that flushes, or do not kexec "
        f"them; `staleline fleet audit {fleet} --kernel IMAGE` says what another kernel would come "
        f"to{why}"
    )


def _gain_line(gain: Gain) -> str:
    return f"{settling(gain)}: {title_of(gain.id)} ({gain.id}). {how_to_get(gain.id)}"

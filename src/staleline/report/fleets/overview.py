# SPDX-License-Identifier: GPL-2.0-or-later
"""What every report of a fleet says, gathered once; renderers add nothing to it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from staleline.fleet.gains import Gain, gains
from staleline.fleet.result import AskedFleet, Fault
from staleline.printable import printable
from staleline.report.words.explanations import explanations
from staleline.vocabulary import Verdict

__all__ = [
    "FleetOverview",
    "ToldAgain",
    "asked_words",
    "counted_as",
    "how_to_get",
    "next_steps",
    "overview",
    "settling",
    "title_of",
]

#: Hosts with columns of their own; more are in a file of rows.
ROWS_SHOWN = 20_000
_AGAIN_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ToldAgain:
    """A host of which there was more than one snapshot."""

    host: str
    conflict: bool
    note: str


@dataclass(frozen=True, slots=True)
class FleetOverview:
    """A fleet, asked.

    Attributes:
        fleet: Its directory.
        kernel: The kernel that was asked about; None for each host's own.
        following: The next kernel.
        append: Its command line; None for any.
        now: When it was asked, in seconds since 1970.
        max_age: Evidence that is older tells nothing.
        counts: Verdict -> hosts.
        judged: Of how many hosts the kernel's rule is known.
        groups: Hosts by verdict, kernel and CPU, worst first.
        by: Column of the inventory -> hosts by its ``value`` and by verdict.
        gains: What is missing, the most valuable first.
        faults: What could not be read.
        again: Hosts that were told more than once, those first of which nothing tells the newest.
        again_count: How many.
        doubtful: Hosts whose time of collecting is none, or lies in the future.
        trapping: Hosts on which a WBINVD traps; that stands beside the verdict.
        flush_ms: What the flushes of a kexec of each host take altogether.
        flush_unknown: Of how many hosts that is not known.
        rows: A row for each host; None if there are more than can be looked at.
        columns: Of the rows.
        classes: Class -> its facts.
    """

    fleet: str
    kernel: str | None
    following: str
    append: str | None
    now: int
    max_age: int | None
    counts: Mapping[str, int]
    judged: int
    groups: Sequence[Mapping[str, Any]]
    by: Mapping[str, Sequence[Mapping[str, Any]]]
    gains: Sequence[Gain]
    faults: Sequence[Fault]
    again: Sequence[ToldAgain]
    again_count: int
    doubtful: int
    trapping: int
    flush_ms: float
    flush_unknown: int
    rows: Sequence[Mapping[str, Any]] | None
    columns: Sequence[str]
    classes: Mapping[int, Sequence[Any]]

    @property
    def hosts(self) -> int:
        """All of them, faults too."""
        return sum(self.counts.values())

    @property
    def verdict(self) -> Verdict:
        """The worst; of nothing, unknown."""
        if self.counts[Verdict.AT_RISK]:
            return Verdict.AT_RISK
        unknown = self.counts[Verdict.UNKNOWN] or not self.hosts
        return Verdict.UNKNOWN if unknown else Verdict.SAFE

    @property
    def asked_words(self) -> str:
        """What was asked of the hosts."""
        return asked_words(self.kernel, self.following, self.append)


def asked_words(kernel: str | None, following: str, append: str | None) -> str:
    """What a result is of: a fleet as it is is never taken for one as it would be."""
    old = "each with its own kernel" if kernel is None else f"what if: {kernel}"
    started = "" if append is None else f", its command line {append!r}"
    return printable(f"{old}; next kernel: {following}{started}")


def overview(asked: AskedFleet, *, with_gains: bool = True) -> FleetOverview:
    """Gather it."""
    groups = asked.by("verdict", "release", "model", "rule", "kernel_evidence", "broken")
    hosts = sum(int(row["hosts"]) for row in groups)
    again = _told_again(asked)
    return FleetOverview(
        fleet=str(asked.fleet.directory),
        kernel=asked.options.question.kernel,
        following=asked.options.question.following,
        append=asked.options.question.append,
        now=asked.told.now,
        max_age=asked.options.max_age,
        counts=asked.counts,
        judged=sum(int(row["hosts"]) for row in groups if row["rule"] is not None),
        groups=groups,
        by={name: asked.by_owner(name) for name in asked.options.by},
        gains=gains(asked.judge, asked.subjects.values(), asked.open_subjects)
        if with_gains
        else (),
        faults=asked.faults,
        again=again,
        again_count=asked.running.value("SELECT COUNT(*) FROM told_again") if again else 0,
        doubtful=asked.doubtful,
        trapping=asked.trapping,
        flush_ms=sum(float(row["flush_ms"] or 0) for row in groups),
        flush_unknown=sum(int(row["flush_unknown"]) for row in groups),
        rows=asked.rows() if hosts <= ROWS_SHOWN else None,
        columns=asked.columns,
        classes=asked.class_values,
    )


def _told_again(asked: AskedFleet) -> list[ToldAgain]:
    if not asked.told.again:
        return []
    rows = asked.running.rows(
        "SELECT host, conflict, again FROM told_again ORDER BY conflict DESC, host LIMIT ?",
        [_AGAIN_SHOWN],
    )
    return [ToldAgain(row["host"], bool(row["conflict"]), row["again"]) for row in rows]


def counted_as(number: int, word: str) -> str:
    """For instance ``1 host`` or ``2,000 hosts``."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def settling(gain: Gain) -> str:
    """What getting a thing would bring, in words."""
    certain = f"Settles {counted_as(gain.settled, 'host')} for certain" if gain.settled else ""
    perhaps = f"{gain.perhaps:,} more perhaps" if gain.perhaps else ""
    if not certain:
        return f"May settle {counted_as(gain.perhaps, 'host')}"
    return ", ".join(part for part in (certain, perhaps) if part)


#: What is got otherwise for a fleet than for one host.
_OF_FLEETS = {
    "unknown-rule": "Put the images of these kernels into a directory, and give it with --kernels: "
    "each host's is found by its build ID, and its own code is run."
}


def title_of(name: str) -> str:
    """What is missing, in a few words."""
    page = explanations().get(name)
    return name if page is None else page.title


def how_to_get(name: str) -> str:
    """How to get what is missing."""
    page = explanations().get(name)
    return _OF_FLEETS.get(name) or ("" if page is None else page.do)


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

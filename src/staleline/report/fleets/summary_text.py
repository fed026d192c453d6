# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet on a terminal: how many, the worst first, what to do next, and what was not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from staleline.fleet.changes import Changes
from staleline.fleet.gains import Gain
from staleline.printable import printable
from staleline.report.fleets.overview import (
    FleetOverview,
    asked_words,
    counted_as,
    how_to_get,
    next_steps,
    title_of,
)
from staleline.report.words.console import VERDICT_STYLE, kept_whole
from staleline.report.words.handovertable import Column, HandoverTable
from staleline.report.words.markup import shortened
from staleline.vocabulary import WORST_FIRST, Verdict

__all__ = ["print_changes", "print_fleet", "print_gains", "print_pairs"]

_GROUPS_SHOWN = 12
_GAINS_SHOWN = 3
_FAULTS_SHOWN = 50
_AGAIN_SHOWN = 5
_NAME_MAX = 60
#: Hosts that are named of those that changed alike.
_EXAMPLES = 3
_VERDICTS = tuple(verdict.words for verdict in WORST_FIRST)
#: Columns of numbers.
_FIGURES = frozenset({"hosts", *_VERDICTS, "flushes"})


def print_fleet(console: Console, overview: FleetOverview) -> None:
    """All that fits on two screens."""
    _print_headline(console, overview)
    _print_groups(console, overview)
    for name, rows in overview.by.items():
        _print_by(console, name, rows)
    console.print()
    console.print(Text("What to do next", "bold"))
    for number, line in enumerate(next_steps(overview, _GAINS_SHOWN), 1):
        console.print(Text(kept_whole(f"  {number}. {line}")))
    _print_faults(console, overview)
    _print_again(console, overview)
    _print_cost(console, overview)


def _print_headline(console: Console, overview: FleetOverview) -> None:
    line = Text.assemble(
        (f"{overview.verdict.value.upper()}", VERDICT_STYLE[overview.verdict.value])
    )
    line.append(f" for a fleet of {counted_as(overview.hosts, 'host')}: ")
    parts = (
        Text(f"{_number(overview.counts[verdict])} {verdict.words}", VERDICT_STYLE[verdict])
        for verdict in WORST_FIRST
    )
    console.print(line.append_text(Text(", ").join(parts)))
    console.print(Text(f"  {overview.asked_words}"))


def _print_groups(console: Console, overview: FleetOverview) -> None:
    # What is safe is only shown where all is: the first screen is for what there is to do.
    shown = [row for row in overview.groups if row["verdict"] != Verdict.SAFE][:_GROUPS_SHOWN]
    shown = shown or list(overview.groups[:_GROUPS_SHOWN])
    if not shown:
        return
    table = _table("verdict", "hosts", "kernel", "rule", "CPU")
    for row in shown:
        table.add(
            Text(row["verdict"], VERDICT_STYLE[row["verdict"]]),
            _number(row["hosts"]),
            Text(_cell(row["release"])),
            Text(_cell(row["rule"]) + (" *" if row["kernel_evidence"] == "release" else "")),
            Text(_cell(row["model"])),
        )
    console.print()
    console.print(table)
    left = len(overview.groups) - len(shown)
    if left:
        console.print(Text(f"  and {_number(left)} more groups, with --format json"), style="dim")
    if any(row["kernel_evidence"] == "release" for row in shown):
        text = "  * guessed from the release: weaker evidence; --kernels DIR reads the images"
        console.print(Text(text), style="dim")


def _print_by(console: Console, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    table = _table(_cell(name), "hosts", *_VERDICTS, "flushes")
    for row in rows:
        counts = [_number(row[key]) for key in ("hosts", "at_risk", "unknown", "safe")]
        table.add(Text(_cell(row["value"])), *counts, _seconds(row["flush_ms"]))
    console.print()
    console.print(table)


def _table(*headings: str) -> HandoverTable:
    """Figures and verdicts stay in one piece; what stands before them tells which row it is."""
    # The first is never one, whatever an owner's column is called.
    names = next(n for n, heading in enumerate(headings) if n and heading in _FIGURES)
    leading = (
        Column(heading, whole=heading == "verdict", first=True) for heading in headings[:names]
    )
    others = (Column(heading, right=heading in _FIGURES) for heading in headings[names:])
    return HandoverTable((*leading, *others))


def _print_faults(console: Console, overview: FleetOverview) -> None:
    if not overview.faults:
        return
    console.print()
    head = f"Not read, and counted as unknown: {_number(len(overview.faults))}"
    console.print(Text(head, "bold"))
    for fault in overview.faults[:_FAULTS_SHOWN]:
        line = Text(f"  {shortened(fault.where, 200)}: {shortened(fault.reason, 300)}")
        console.print(line, soft_wrap=True)
    left = len(overview.faults) - _FAULTS_SHOWN
    if left > 0:
        console.print(Text(f"  and {_number(left)} more, with --format json"), style="dim")


def _print_again(console: Console, overview: FleetOverview) -> None:
    if overview.again:
        console.print()
        head = f"Told more than once: {counted_as(overview.again_count, 'host')}"
        console.print(Text(head, "bold"))
        for one in overview.again[:_AGAIN_SHOWN]:
            line = Text(f"  {_cell(one.host)}: {shortened(one.note, 300)}")
            console.print(line, soft_wrap=True)
    if overview.doubtful:
        hosts = counted_as(overview.doubtful, "host")
        text = (
            f"Of {hosts} the time of collecting is none, or lies in the future, and is not trusted"
        )
        console.print()
        console.print(Text(text))


def _print_cost(console: Console, overview: FleetOverview) -> None:
    known = overview.hosts - overview.flush_unknown
    if known:
        console.print()
        seconds = _seconds(overview.flush_ms)
        line = f"Flushes of a kexec: {seconds} altogether on {counted_as(known, 'host')}"
        unknown = (
            f", not known on {_number(overview.flush_unknown)}" if overview.flush_unknown else ""
        )
        console.print(Text(line + unknown))


def print_gains(console: Console, gains: Sequence[Gain]) -> None:
    """What is missing, the most valuable first."""
    if not gains:
        console.print("nothing is missing that would settle a host")
        return
    for gain in gains:
        line = Text.assemble(
            (f"{gain.id}", "bold"),
            f": missing of {counted_as(gain.hosts, 'host')}, "
            f"settles {_number(gain.settled)} for certain",
            f", {_number(gain.perhaps)} perhaps" if gain.perhaps else "",
        )
        console.print(line)
        console.print(Text(kept_whole(f"    {title_of(gain.id)}. {how_to_get(gain.id)}")))


def print_changes(console: Console, changes: Changes) -> None:
    """What changed, the worst first."""
    console.print(
        f"{_number(changes.old)} hosts before, {_number(changes.new)} now: "
        f"{_number(changes.worse)} worse, {_number(changes.same)} the same"
    )
    before, now = map(_asked, changes.asked)
    if before != now:
        console.print(Text(f"  what was asked differs: before {before}; now {now}", "bold"))
    for change in changes.changed:
        path = f"{change.path} " if change.path else ""
        line = Text(f"  {_number(change.hosts):>9}  {path}")
        for verdict in (change.old, change.new):
            line.append(verdict or "not there", VERDICT_STYLE.get(verdict or "", ""))
            line.append(" → " if verdict is change.old else "")
        shown = change.examples[:_EXAMPLES]
        examples = ", ".join(map(_cell, shown)) + ("…" if change.hosts > len(shown) else "")
        line.append(f"  {printable('; '.join(change.by))}  ({examples})")
        console.print(line, soft_wrap=True)


def _asked(asked: Mapping[str, Any]) -> str:
    if not asked:
        return "not told"
    words = asked_words(asked["kernel"], asked["next"], asked["append"])
    if asked["max_age"] is not None:
        words += f", evidence of {asked['max_age']} seconds at most"
    return words


def print_pairs(console: Console, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """A line for each old kernel and next one, the worst first."""
    table = _table("next", "old kernel", "rule", "hosts", *_VERDICTS)
    for following, rows in found.items():
        for row in rows:
            table.add(
                Text(_cell(following)),
                Text(_cell(row["release"])),
                Text(_cell(row["rule"])),
                *(_number(row[name]) for name in ("hosts", "at_risk", "unknown", "safe")),
            )
    console.print(table)


def _number(value: object) -> str:
    return f"{int(str(value)):,}"


def _cell(text: object) -> str:
    return "unknown" if text is None else shortened(str(text), _NAME_MAX)


def _seconds(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "unknown"
    return f"{milliseconds / 1000:,.3g} s" if milliseconds >= 1000 else f"{milliseconds:.3g} ms"

# SPDX-License-Identifier: GPL-2.0-or-later
"""What changes from one policy to another, as text or ``staleline/diff/1``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from staleline.report.policies.folding import place_fields
from staleline.report.words.console import VERDICT_STYLE, markup_escape
from staleline.report.words.handovertable import Column, HandoverTable
from staleline.report.words.words import flush_words, state_word, transition_words
from staleline.verdict.policies.difference import (
    ChangedHandover,
    ConditionDifference,
    Difference,
    FlushCount,
    SiteDifference,
)
from staleline.vocabulary import Site

__all__ = ["difference_document", "print_difference", "print_handovers"]

_WHO = {
    Site.STOP_THIS_CPU: "each secondary, on a kexec",
    Site.RELOCATE_KERNEL: "the jumping CPU",
    Site.CRASH_NMI_CALLBACK: "each secondary, in a crash",
}


def difference_document(difference: Difference) -> dict[str, Any]:
    """The JSON document; conditions are expressions of the policy language."""
    return {
        "schema": "staleline/diff/1",
        "old": difference.old.name,
        "new": difference.new.name,
        "sites": {site.site: _condition_document(site) for site in difference.sites},
        "crash": {site.site: _condition_document(site) for site in difference.crash},
        "encrypts": _condition_document(difference.encrypts),
        "reported_stopped": list(difference.reported),
        "cost": {
            cost.site: {"more": cost.more, "unneeded": cost.unneeded, "less": cost.less}
            for cost in difference.costs
        },
        "handovers": [_handover_document(changed) for changed in difference.handovers],
    }


def _condition_document(change: ConditionDifference) -> dict[str, str | None]:
    return {
        "added": None if change.added is None else str(change.added),
        "dropped": None if change.dropped is None else str(change.dropped),
    }


def _handover_document(changed: ChangedHandover) -> dict[str, Any]:
    row = changed.new
    return {
        **place_fields(row),
        "encrypts": list(map(state_word, changed.encrypts)),
        "verdict": [changed.old.judgement.verdict, changed.new.judgement.verdict],
        "flushes": [dict(one.judgement.flushes) for one in (changed.old, changed.new)],
        "faults": [list(one.judgement.faults) for one in (changed.old, changed.new)],
    }


def print_difference(console: Console, difference: Difference) -> None:
    """Print where the rules differ, what that costs, and the handovers that change."""
    old, new = difference.old, difference.new
    console.print(f"[bold]{markup_escape(old.name)}[/] → [bold]{markup_escape(new.name)}[/]")
    console.print()
    for site in difference.sites:
        _print_site(console, site)
    for site in difference.crash:
        for line in _site_words(site, f"{site.site} in a crash"):
            console.print(line)
    for sign, words, condition in (
        ("+", "encrypts its memory also where", difference.encrypts.added),
        ("-", "encrypts its memory no longer where", difference.encrypts.dropped),
    ):
        if condition is not None:
            console.print(f"{sign} {words} {markup_escape(str(condition))}")
    before, after = difference.reported
    if before is not after:
        console.print(f"~ a CPU is reported stopped {after}, was {before}".replace("-", " "))
    console.print()
    print_handovers(console, difference)


def print_handovers(console: Console, difference: Difference) -> None:
    """Print which handovers change, and the WBINVDs that costs or saves."""
    if not difference.handovers:
        console.print("No handover changes on any platform class.")
        return
    for cost in difference.costs:
        console.print(_cost_words(cost))
    console.print(_handovers(difference))


def _print_site(console: Console, site: SiteDifference) -> None:
    lines = list(_site_words(site, str(site.site)))
    for line in lines:
        console.print(line)
    if not lines:
        console.print(f"  {site.site}: the same rule", style="dim")


def _site_words(site: SiteDifference, name: str) -> Iterator[str]:
    for sign, verb, condition in (
        ("+", "one more WBINVD where", site.added),
        ("-", "one WBINVD less where", site.dropped),
    ):
        if condition is not None:
            yield f"{sign} {name}: {verb} {markup_escape(str(condition))}"


def _cost_words(cost: FlushCount) -> str:
    """For instance: the jumping CPU: one WBINVD more in 14 handovers (12 unneeded)."""
    parts = []
    if cost.more:
        unneeded = f" ({cost.unneeded} unneeded)" if cost.unneeded else ""
        parts.append(f"one WBINVD more in {_handovers_of(cost.more)}{unneeded}")
    if cost.less:
        parts.append(f"one WBINVD less in {_handovers_of(cost.less)}")
    return f"{_WHO[cost.site]}: {', '.join(parts)}"


def _handovers_of(count: int) -> str:
    return f"{count} handover{'' if count == 1 else 's'}"


def _handovers(difference: Difference) -> HandoverTable:
    """One row for all transitions of a platform that change alike; CPUs as in `_WHO`."""
    table = HandoverTable(
        (
            Column("platform", whole=True),
            Column("path", whole=True),
            Column("old→next", first=True),
            Column("secondaries"),
            Column("jumping CPU"),
            Column("verdict", whole=True),
        )
    )
    alike: dict[tuple[str, ...], list[ChangedHandover]] = {}
    for changed in difference.handovers:
        alike.setdefault(_row(changed), []).append(changed)
    for (platform, path, secondaries, jumping, _), rows in alike.items():
        transitions = "; ".join(map(_transition, rows))
        table.add(platform, path, transitions, secondaries, jumping, _verdicts(rows[0]))
    return table


def _transition(changed: ChangedHandover) -> str:
    """Of one machine, on which the old kernel may encrypt by one rule, and not by the other."""
    before, after = changed.encrypts
    words = transition_words(changed.new)
    return words if before is after else f"{transition_words(changed.old)}, now {words}"


def _row(changed: ChangedHandover) -> tuple[str, ...]:
    path = changed.new.path
    sites = (path.secondaries_site, Site.RELOCATE_KERNEL)
    changes = (_change(changed, site) for site in sites)
    return (changed.new.platform, path, *changes, _verdicts(changed).plain)


def _change(changed: ChangedHandover, site: Site) -> str:
    """``+1`` or ``-1`` WBINVD on each such CPU, and whether it was called for."""
    before, after = changed.flushes(site)
    if before == after:
        return ""
    if not after:
        return "-1"
    return "+1" + flush_words(changed.new.judgement, site).removeprefix("WBINVD")


def _verdicts(changed: ChangedHandover) -> Text:
    before, after = changed.old.judgement.verdict, changed.new.judgement.verdict
    if before is after:
        return Text(after, style=VERDICT_STYLE[after])
    return Text.assemble((before, VERDICT_STYLE[before]), " → ", (after, VERDICT_STYLE[after]))

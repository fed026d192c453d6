# SPDX-License-Identifier: GPL-2.0-or-later
"""What changes from one policy to another, as text or ``staleline/diff/1``."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from staleline.report.console import VERDICT_STYLE
from staleline.report.words import flush_words, state_word, transition_words
from staleline.verdict.difference import ChangedHandover, Difference
from staleline.vocabulary import Site

__all__ = ["difference_document", "print_difference"]


def difference_document(difference: Difference) -> dict[str, Any]:
    """The JSON document; conditions are expressions of the policy language."""
    return {
        "schema": "staleline/diff/1",
        "old": difference.old.name,
        "new": difference.new.name,
        "sites": {
            site.site: {
                "added": None if site.added is None else str(site.added),
                "dropped": None if site.dropped is None else str(site.dropped),
            }
            for site in difference.sites
        },
        "reported_stopped": list(difference.reported),
        "handovers": [_handover_document(changed) for changed in difference.handovers],
    }


def _handover_document(changed: ChangedHandover) -> dict[str, Any]:
    row = changed.new
    return {
        "platform": row.platform,
        "old": state_word(row.old),
        "next": state_word(row.next),
        "path": row.path,
        "sev_guests_run": row.sev_guests_run,
        "verdict": [changed.old.judgement.verdict, changed.new.judgement.verdict],
        "flushes": [dict(one.judgement.flushes) for one in (changed.old, changed.new)],
        "faults": [list(one.judgement.faults) for one in (changed.old, changed.new)],
    }


def print_difference(console: Console, difference: Difference) -> None:
    """Print where the rules differ, then the handovers that change."""
    old, new = difference.old, difference.new
    console.print(f"[bold]{escape(old.name)}[/] → [bold]{escape(new.name)}[/]")
    console.print()
    for site in difference.sites:
        for sign, verb, condition in (
            ("+", "one more WBINVD where", site.added),
            ("-", "one WBINVD less where", site.dropped),
        ):
            if condition is not None:
                console.print(f"{sign} {site.site}: {verb} {escape(str(condition))}")
        if site.added is None and site.dropped is None:
            console.print(f"  {site.site}: the same rule", style="dim")
    before, after = difference.reported
    if before is not after:
        console.print(f"~ a CPU is reported stopped {after}, was {before}".replace("-", " "))
    console.print()
    if difference.handovers:
        console.print(_handovers(difference))
    else:
        console.print("No handover changes on any platform class.")


def _handovers(difference: Difference) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("platform", "path", "old→next", "secondaries", "jumping CPU", "verdict"):
        table.add_column(heading)
    for changed in difference.handovers:
        row = changed.new
        table.add_row(
            row.platform,
            row.path,
            transition_words(row),
            _change(changed, row.path.secondaries_site),
            _change(changed, Site.RELOCATE_KERNEL),
            _verdicts(changed),
        )
    return table


def _change(changed: ChangedHandover, site: Site) -> str:
    before, after = (flush_words(one.judgement, site) for one in (changed.old, changed.new))
    return after if before == after else f"{before} → {after}"


def _verdicts(changed: ChangedHandover) -> Text:
    before, after = changed.old.judgement.verdict, changed.new.judgement.verdict
    if before is after:
        return Text(after, style=VERDICT_STYLE[after])
    return Text.assemble((before, VERDICT_STYLE[before]), " → ", (after, VERDICT_STYLE[after]))

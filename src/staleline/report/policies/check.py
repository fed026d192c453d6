# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy's model check, as a table or ``staleline/check/1``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from staleline.policy.policy import Policy
from staleline.report.formats.findings import violation_id
from staleline.report.words.console import VERDICT_STYLE, markup_escape
from staleline.report.words.lanes import lanes
from staleline.report.words.words import required_words, state_word, transition_words
from staleline.verdict.policies.platforms import PlatformHandover
from staleline.vocabulary import Site, Verdict

if TYPE_CHECKING:  # what checks exactly is imported only where it is asked for
    from staleline.verdict.policies.exact import ExactCheck

__all__ = ["check_document", "print_check"]

_ROW = ("platform", "path", "old→next")


def check_document(
    policy: Policy, rows: Sequence[PlatformHandover], exact: ExactCheck | None = None
) -> dict[str, Any]:
    """The JSON document of one policy; `states` of an exact check is a text of digits."""
    return {
        "schema": "staleline/check/1",
        "policy": policy.name,
        "handovers": [_handover_document(row) for row in rows],
        "exact": None
        if exact is None
        else {
            "cpus": exact.cpus,
            "models": exact.models,
            "states": str(exact.states),
            "agrees": not exact.disagreeing,
        },
    }


def _handover_document(row: PlatformHandover) -> dict[str, Any]:
    judgement = row.judgement
    answer = judgement.answer
    found = judgement.counterexample
    return {
        "platform": row.platform,
        "old": state_word(row.old),
        "next": state_word(row.next),
        "path": row.path,
        "sev_guests_run": row.sev_guests_run,
        "verdict": judgement.verdict,
        "because": judgement.because,
        "flushes": dict(judgement.flushes),
        "required": dict(judgement.needed),
        "minimal": [list(sites) for sites in judgement.minimal],
        "unneeded": [
            {"site": site, "reason": reason} for site, reason in judgement.unneeded.items()
        ],
        "faults": list(judgement.faults),
        "unknown": list(judgement.unknown),
        "answer": None if answer is None else answer.kind,
        "property": None if answer is None else answer.property,
        "states": None if answer is None else answer.states,
        "cpus": None if answer is None else answer.cpus,
        "symmetry": None if answer is None else answer.symmetry,
        "counterexample": None,
        "steps": [] if found is None else [step.sentence for step in found.steps],
    }


def print_check(
    console: Console,
    policy: Policy,
    rows: Sequence[PlatformHandover],
    exact: ExactCheck | None = None,
) -> None:
    """Print the table, and one counterexample per platform that is at risk."""
    console.print(f"[bold]{markup_escape(policy.name)}[/]  {markup_escape(policy.title)}")
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in (*_ROW, "secondaries", "jumping CPU", "required", "verdict"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        judgement, site = row.judgement, row.path.secondaries_site
        table.add_row(
            row.platform,
            row.path,
            transition_words(row),
            _executed(row, site),
            _executed(row, Site.RELOCATE_KERNEL),
            required_words(judgement.needed, site, attainable=judgement.attainable),
            Text(row.judgement.verdict, style=VERDICT_STYLE[row.judgement.verdict]),
        )
    console.print(table)
    if exact is not None:
        console.print()
        console.print(_exact_words(exact))
    _print_counterexamples(console, rows)
    console.print()


def _exact_words(exact: ExactCheck) -> str:
    what = f"Exactly {exact.cpus} CPUs, {exact.models} models, {_rounded(exact.states)} states"
    if not exact.disagreeing:
        return f"{what}: every verdict is the same."
    rows = (f"{row.platform} {row.path} {transition_words(row)}" for row in exact.disagreeing)
    return f"{what}: [bold red]another verdict[/] for {'; '.join(rows)}"


def _rounded(states: int) -> str:
    digits = str(states)
    return digits if len(digits) < 10 else f"{digits[0]}.{digits[1:3]}·10^{len(digits) - 1}"


def _executed(row: PlatformHandover, site: Site) -> str:
    """What the policy does; whether it has to is the next column's."""
    if site in row.judgement.faults:
        return "faults"
    return "WBINVD" if row.judgement.flushes[site] else "no WBINVD"


def _print_counterexamples(console: Console, rows: Sequence[PlatformHandover]) -> None:
    shown: set[str] = set()
    for row in rows:
        found = row.judgement.counterexample
        if row.judgement.verdict is Verdict.AT_RISK and found and row.platform not in shown:
            shown.add(row.platform)
            console.print()
            title = f"Counterexample: {row.platform}, {row.path} {transition_words(row)}"
            console.print(f"[bold]{markup_escape(title)}[/]  [dim]{violation_id(found)}[/]")
            console.print(lanes(found))

# SPDX-License-Identifier: GPL-2.0-or-later
"""The claims of the threads with what became of each, as text or ``staleline/claims/1``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from staleline.report.policies.folding import place_fields
from staleline.report.words.console import markup_escape
from staleline.report.words.lanes import lanes
from staleline.report.words.words import transition_words
from staleline.verdict.policies.claims import ClaimResult, StatementOutcome, Status
from staleline.verdict.policies.platforms import PlatformHandover

__all__ = ["claims_document", "print_claims"]

_STYLE = {
    Status.PROVED: "bold green",
    Status.CONDITIONAL: "bold yellow",
    Status.REFUTED: "bold red",
}


def claims_document(results: Sequence[ClaimResult]) -> dict[str, Any]:
    """The JSON document."""
    return {
        "schema": "staleline/claims/1",
        "claims": [_claim_document(result) for result in results],
    }


def _claim_document(result: ClaimResult) -> dict[str, Any]:
    claim = result.claim
    return {
        "id": claim.id,
        "who": claim.who,
        "when": claim.when,
        "source": claim.source,
        "says": claim.says,
        "status": result.status,
        "condition": claim.condition if result.status is Status.CONDITIONAL else None,
        "statements": [_outcome_document(outcome) for outcome in result.outcomes],
        "under_condition": [_outcome_document(outcome) for outcome in result.under_condition],
    }


def _outcome_document(outcome: StatementOutcome) -> dict[str, Any]:
    counterexample = outcome.counterexample
    return {
        "holds": outcome.holds,
        "handovers": outcome.cases,
        "evidence": outcome.evidence,
        "exception": None if outcome.exception is None else _row(outcome.exception),
        "steps": [] if counterexample is None else [step.sentence for step in counterexample.steps],
    }


def _row(row: PlatformHandover) -> dict[str, Any]:
    return {
        **place_fields(row),
        "verdict": row.judgement.verdict,
        "faults": list(row.judgement.faults),
    }


def print_claims(console: Console, results: Sequence[ClaimResult], *, full: bool) -> None:
    """Print each claim with its evidence; `full` adds the interleavings."""
    for result in results:
        claim = result.claim
        status = Text(result.status.upper(), style=_STYLE[result.status])
        console.print(Text.assemble((f"({claim.id}) ", "bold"), status))
        console.print(Padding(markup_escape(claim.says), (0, 0, 0, 4), expand=False))
        console.print(
            Padding(markup_escape(f"{claim.who}, {claim.when}"), (0, 0, 0, 4), expand=False),
            style="dim",
        )
        for outcome in result.outcomes:
            _print_outcome(console, outcome, full=full)
        if result.status is Status.CONDITIONAL:
            console.print(
                Padding(markup_escape(f"True if {claim.condition}:"), (0, 0, 0, 4), expand=False)
            )
            for outcome in result.under_condition:
                _print_outcome(console, outcome, full=full)
        console.print()


def _print_outcome(console: Console, outcome: StatementOutcome, *, full: bool) -> None:
    mark = "✓" if outcome.holds else "✗"
    console.print(Padding(f"{mark} {markup_escape(outcome.evidence)}", (0, 0, 0, 4), expand=False))
    if outcome.exception is None:
        return
    row = outcome.exception
    first = f"for instance {row.platform}, {row.path} {transition_words(row)}"
    counterexample = outcome.counterexample
    if counterexample is not None and not full:
        # The last step is what the claim does not survive; how it comes to that is for `full`.
        first = f"{first}: {counterexample.steps[-1].sentence}"
    console.print(Padding(markup_escape(first), (0, 0, 0, 6), expand=False), style="dim")
    if counterexample is not None and full:
        console.print(Padding(lanes(counterexample), (0, 0, 0, 6), expand=False))

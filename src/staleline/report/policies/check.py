# SPDX-License-Identifier: GPL-2.0-or-later
"""A rule's model check: what holds first, then a folded table, or ``staleline/check/1``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from staleline.report.policies.folding import (
    FoldedRow,
    Reason,
    counted,
    folded,
    place_fields,
    why_not_safe,
)
from staleline.report.policies.folding import where_words as where
from staleline.report.policies.selected import of_roles_alone, selected_fields
from staleline.report.policies.subject import identity_lines, subject_fields
from staleline.report.words.console import VERDICT_STYLE, markup_escape
from staleline.report.words.handovertable import Column, HandoverTable
from staleline.report.words.lanes import lanes
from staleline.report.words.tables import Table
from staleline.report.words.words import transition_words
from staleline.verdict.handover.readkernel import NamedRule
from staleline.verdict.policies.platforms import PlatformHandover, Selection
from staleline.vocabulary import Verdict

if TYPE_CHECKING:  # what checks exactly is imported only where it is asked for
    from staleline.verdict.policies.exact import ExactCheck

__all__ = ["RuleCheck", "check_document", "exact_words", "headline", "print_check", "told_reasons"]


@dataclass(frozen=True, slots=True)
class RuleCheck:
    """One rule, judged on platform classes.

    Attributes:
        rule: The policy or image.
        rows: Its handovers.
        exact: The check for an exact number of CPUs, if it was asked for.
        accepted: Assumptions that were accepted, by their names.
        only_accepted: How many handovers are safe because of these, and not without them.
        selection: Of which handovers and lines it was asked.
    """

    rule: NamedRule
    rows: tuple[PlatformHandover, ...]
    exact: ExactCheck | None = None
    accepted: tuple[str, ...] = ()
    only_accepted: int = 0
    selection: Selection = field(default_factory=Selection)


def check_document(checked: RuleCheck) -> dict[str, Any]:
    """The JSON document of one rule; `states` of an exact check is a text of digits."""
    exact = checked.exact
    return {
        "schema": "staleline/check/1",
        "policy": checked.rule.name,
        "image": subject_fields(checked.rule),
        "asked": selected_fields(checked.selection),
        "accepted": list(checked.accepted),
        "only_accepted": checked.only_accepted,
        "summary": counted(checked.rows),
        "reasons": [_reason_document(reason) for reason in why_not_safe(checked.rows)],
        "handovers": [_handover_document(row) for row in checked.rows],
        "exact": None
        if exact is None
        else {
            "cpus": exact.cpus,
            "models": exact.models,
            # Digits, as the number passes 2^53, from which on readers of JSON lose some.
            "states": str(exact.states),
            "agrees": not exact.disagreeing,
        },
    }


def _reason_document(reason: Reason) -> dict[str, Any]:
    return {
        "verdict": reason.verdict,
        "path": reason.path,
        "id": reason.id or None,
        "reason": reason.words,
        "where": where(reason.rows),
        "handovers": len(reason.rows),
    }


def _handover_document(row: PlatformHandover) -> dict[str, Any]:
    judgement = row.judgement
    answer = judgement.answer
    counterexample = judgement.counterexample
    return {
        **place_fields(row),
        "verdict": judgement.verdict,
        "because": judgement.because,
        "flushes": dict(judgement.flushes),
        "required": dict(judgement.needed),
        "attainable": judgement.attainable,
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
        # Nothing is written beside a check; the field is one of every document with handovers.
        "counterexample": None,
        "steps": [] if counterexample is None else [step.sentence for step in counterexample.steps],
    }


def print_check(console: Console, checked: RuleCheck) -> None:
    """What holds, why the rest does not, the folded table, and each counterexample once."""
    _print_head(console, checked)
    console.print()
    console.print(_table(folded(checked.rows)))
    if checked.exact is not None:
        console.print()
        style = "bold red" if checked.exact.disagreeing else ""
        console.print(Text(exact_words(checked.exact), style))
    _print_counterexamples(console, checked.rows)
    console.print()


def headline(checked: RuleCheck) -> str:
    """For instance: 38 of 54 handovers safe, 16 at risk."""
    counts = counted(checked.rows)
    total = len(checked.rows)
    worse = [f"{counts[v]} {v.words}" for v in counts if v is not Verdict.SAFE and counts[v]]
    text = f"{counts[Verdict.SAFE]} of {total} handovers safe"
    if not worse:
        text = "the handover is safe" if total == 1 else f"all {total} handovers safe"
    return ", ".join((text, *worse, *filter(None, [of_roles_alone(checked.selection)])))


def told_reasons(rows: Iterable[PlatformHandover]) -> Iterator[tuple[Reason, str]]:
    """Each reason with where it holds, in a sentence."""
    for reason in why_not_safe(rows):
        explain = f" ({reason.id})" if reason.id else ""
        yield reason, f"{reason.path} {where(reason.rows)}: {reason.words}{explain}"


def _print_head(console: Console, checked: RuleCheck) -> None:
    counts = counted(checked.rows)
    worst = next(verdict for verdict, count in counts.items() if count)
    name = markup_escape(checked.rule.name)
    style = VERDICT_STYLE[worst]
    console.print(f"[bold]{name}[/]: [{style}]{headline(checked)}[/]")
    for name in checked.accepted:
        console.print(
            f"  accepted, not shown: {name}; without it {checked.only_accepted} of these are not "
            "safe"
        )
    for reason, text in told_reasons(checked.rows):
        style = VERDICT_STYLE[reason.verdict]
        console.print(_hanging(Text(reason.verdict.words, style), Text(text)))
    console.print()
    for label, text in identity_lines(checked.rule):
        console.print(_hanging(Text(label, "dim"), Text(text)))


def _hanging(label: Text, text: Text) -> Table:
    """A label, and a text that is indented behind it as far as it goes on."""
    grid = Table.grid(padding=(0, 2))
    # As wide as the longest label, so that all texts begin in one column.
    grid.add_column(no_wrap=True, min_width=len("  evidence"))
    grid.add_column()
    grid.add_row(Text.assemble("  ", label), text)
    return grid


def _table(rows: Sequence[FoldedRow]) -> HandoverTable:
    table = HandoverTable(
        (
            Column("verdict", whole=True),
            Column("path", whole=True),
            Column("old→next", first=True),
            Column("WBINVD"),
            Column("required"),
            Column("on"),
        )
    )
    for row in rows:
        table.add(
            Text(row.verdict.words, style=VERDICT_STYLE[row.verdict]),
            row.path,
            row.transitions,
            row.executed,
            row.required,
            ", ".join(row.platforms),
        )
    return table


def exact_words(exact: ExactCheck) -> str:
    """What another engine says with exactly so many CPUs, in a sentence."""
    cpus = "1 CPU" if exact.cpus == 1 else f"{exact.cpus} CPUs"
    what = f"Exactly {cpus}, {exact.models} models, {_rounded(exact.states)} states"
    if exact.disagreeing:
        return f"{what}: another verdict for {_named(exact.disagreeing)}."
    if exact.needing_more:
        return (
            f"{what}: the same, but that these break with more only: {_named(exact.needing_more)}."
        )
    return f"{what}: every verdict is the same."


def _named(rows: Iterable[PlatformHandover]) -> str:
    return "; ".join(f"{row.platform} {row.path} {transition_words(row)}" for row in rows)


def _rounded(states: int) -> str:
    digits = str(states)
    return digits if len(digits) < 10 else f"{digits[0]}.{digits[1:3]}·10^{len(digits) - 1}"


def _print_counterexamples(console: Console, rows: Sequence[PlatformHandover]) -> None:
    """The shortest of each reason, which stands for the others."""
    for reason in why_not_safe(rows):
        if reason.shortest is None:
            continue
        row, run = reason.shortest
        others = len(reason.rows) - 1
        title = f"Counterexample: {row.platform}, {row.path} {transition_words(row)}"
        alike = f"; {others} more handover{'' if others == 1 else 's'} alike" if others else ""
        console.print()
        console.print(f"[bold]{markup_escape(title)}[/]  [dim]{reason.id}{alike}[/]")
        console.print(lanes(run))

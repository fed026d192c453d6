# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy's proofs, as a table or ``staleline/prove/1``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from staleline.check.answer import AnswerKind
from staleline.check.proof.certificate import Recheck
from staleline.check.proof.invariant import InvariantCheck
from staleline.report.policies.folding import place_fields, where_words
from staleline.report.policies.subject import subject_fields
from staleline.report.words.console import markup_escape
from staleline.report.words.lanes import lanes
from staleline.report.words.tables import Table
from staleline.report.words.words import state_word, transition_words
from staleline.verdict.handover.readkernel import NamedRule
from staleline.verdict.policies.proof import HandoverProof, PolicyProof, Question

__all__ = [
    "certified_document",
    "print_certified",
    "print_proof",
    "proof_document",
    "proof_trace_name",
]

_STYLE = {
    AnswerKind.PROVED: "bold green",
    AnswerKind.COUNTEREXAMPLE: "bold red",
    AnswerKind.VERIFIED: "bold yellow",
}
_WORST_FIRST = (AnswerKind.COUNTEREXAMPLE, AnswerKind.VERIFIED, AnswerKind.PROVED)
_WORDS = {
    AnswerKind.PROVED: "proved for every number of CPUs",
    AnswerKind.COUNTEREXAMPLE: "refuted by a counterexample",
    AnswerKind.VERIFIED: "inconclusive, verified up to a number of CPUs",
}


def proof_trace_name(row: HandoverProof) -> str:
    """File name of a counterexample, e.g. ``amd-sme-incoherent-kexec-on-off.itf.json``."""
    guests = "-sev-guests" if row.sev_guests_run else ""
    states = f"{state_word(row.old)}-{state_word(row.next)}"
    return f"{row.platform}-{row.path}-{states}{guests}.itf.json"


def proof_document(
    rule: NamedRule, proof: PolicyProof, *, certificate: str | None, traces: Mapping[str, str]
) -> dict[str, Any]:
    """The JSON document.

    Args:
        rule: The policy or image.
        proof: Its proofs.
        certificate: Path of the written certificate.
        traces: `proof_trace_name` of a handover -> path of its written counterexample.
    """
    return {
        "schema": "staleline/prove/1",
        "policy": rule.name,
        "image": subject_fields(rule),
        "answer": proof.answer,
        "handovers": [_handover(row, traces.get(proof_trace_name(row))) for row in proof.handovers],
        # What was proved just now is every handover of the rule; only a file may leave some out.
        "uncertified": [],
        "recheck": _recheck(proof.recheck),
        "certificate": certificate,
        "accepted": list(proof.accepted),
    }


def _recheck(found: Recheck) -> dict[str, Any]:
    """What z3 says of a certificate."""
    return {"solver": "z3", "models": found.models, "obligations": found.obligations}


def _handover(row: HandoverProof, trace: str | None) -> dict[str, Any]:
    answer = row.answer
    counterexample = answer.counterexample
    return place_fields(row) | {
        "answer": answer.kind,
        "property": answer.property,
        "searched": {"cpus": answer.cpus, "states": answer.states, "symmetry": answer.symmetry},
        "steps": [] if counterexample is None else [step.sentence for step in counterexample.steps],
        "counterexample": trace,
        "invariant": None if row.invariant is None else _invariant(row.invariant),
    }


def _invariant(outcome: InvariantCheck) -> dict[str, Any]:
    failures = [{"line": line, "condition": one.name} for line, one in outcome.failures]
    return {"conditions": outcome.conditions, "failures": failures}


def print_proof(console: Console, rule: NamedRule, proof: PolicyProof) -> None:
    """Print what holds, the table, some counterexamples, and how good the answers are."""
    console.print(f"[bold]{markup_escape(rule.name)}[/]  {markup_escape(rule.title)}")
    _print_kinds(console, proof)
    _print_accepted(console, proof.accepted)
    console.print()
    console.print(_table(proof.handovers))
    _print_counterexamples(console, proof.handovers)
    _print_invariants(console, proof.handovers)
    if any(row.answer.kind is AnswerKind.PROVED for row in proof.handovers):
        console.print()
        console.print(_fine_print(proof))


def _print_accepted(console: Console, accepted: Sequence[str]) -> None:
    for name in accepted:
        console.print(f"Accepted, not shown: {name} (docs/model.md).")


def _print_kinds(console: Console, proof: PolicyProof) -> None:
    kinds = Counter(row.answer.kind for row in proof.handovers)
    for kind in AnswerKind:
        if kinds[kind]:
            text = f"{kinds[kind]} of {len(proof.handovers)} handovers {_WORDS[kind]}."
            console.print(Text(text, style=_STYLE[kind]))


def _table(rows: Sequence[HandoverProof]) -> Table:
    """One row for all handovers of a path with the same answer."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("path", no_wrap=True)
    table.add_column("answer", min_width=len("counterexample:"))
    table.add_column("old→next", ratio=1)
    alike: dict[tuple[str, AnswerKind, str], list[HandoverProof]] = {}
    for row in sorted(rows, key=lambda one: _WORST_FIRST.index(one.answer.kind)):
        alike.setdefault((row.path, row.answer.kind, _answer_words(row)), []).append(row)
    for (path, kind, words), several in alike.items():
        table.add_row(path, Text(words, style=_STYLE[kind]), where_words(several))
    return table


def _answer_words(row: HandoverProof) -> str:
    answer = row.answer
    match answer.kind:
        case AnswerKind.PROVED:
            return "proved"
        case AnswerKind.COUNTEREXAMPLE:
            return f"counterexample: {answer.property}, with {answer.cpus} CPUs"
        case AnswerKind.VERIFIED:
            return f"inconclusive, verified up to {answer.cpus} CPUs"


def _fine_print(proof: PolicyProof) -> Text:
    rechecked = proof.recheck
    return Text(
        f"z3 confirmed the proofs: {rechecked.obligations} obligations of {rechecked.models} "
        "models. Proved are P1 (no stale write-back or read), P2 (no handover before a flush), P3 "
        f"(no fault) and {_hangs(rechecked)}; see docs/proof.md.",
        style="dim",
    )


def _hangs(found: Recheck) -> str:
    return "P4 (no hang)" if found.never_hangs else "not P4 (no hang), which is searched only"


def _print_counterexamples(console: Console, rows: Sequence[HandoverProof]) -> None:
    """One per property and path; the traces have all of them."""
    shown: set[tuple[str, str]] = set()
    for row in rows:
        counterexample = row.answer.counterexample
        if counterexample is not None and (counterexample.property, row.path) not in shown:
            shown.add((counterexample.property, row.path))
            title = f"Counterexample: {row.platform}, {row.path} {transition_words(row)}"
            console.print(f"\n[bold]{markup_escape(title)}[/]")
            console.print(lanes(counterexample))


def _print_invariants(console: Console, rows: Sequence[HandoverProof]) -> None:
    """Where the readable invariant was checked: how many conditions hold, or which fail."""
    checked = [(row, row.invariant) for row in rows if row.invariant is not None]
    if not checked:
        return
    console.print("\n[bold]The readable invariant, for any set of secondaries[/]")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for whole in (True, True, False):
        table.add_column(no_wrap=whole)
    for row, outcome in checked:
        words = _outcome_words(outcome)
        table.add_row(row.platform, transition_words(row), words)
    console.print(table)


def _outcome_words(outcome: InvariantCheck) -> Text:
    if outcome.holds:
        return Text(f"all {outcome.conditions} conditions hold", style="green")
    lines: dict[str, list[str]] = {}
    for line, condition in outcome.failures:
        lines.setdefault(condition.name, []).append(line)
    failing = (f"fails: {name} ({', '.join(where)})" for name, where in lines.items())
    return Text("\n".join(failing), style="red")


def certified_document(
    rule: NamedRule,
    file: str,
    rechecked: Recheck,
    missing: Sequence[Question],
    accepted: Sequence[str] = (),
) -> dict[str, Any]:
    """The JSON document of an accepted certificate."""
    return {
        "schema": "staleline/prove/1",
        "policy": rule.name,
        "image": subject_fields(rule),
        # Nothing is refuted, and something is open: exit status 3 says the same.
        "answer": AnswerKind.VERIFIED if missing else AnswerKind.PROVED,
        "handovers": [],
        "uncertified": [place_fields(row) for row in missing],
        "recheck": _recheck(rechecked),
        "certificate": file,
        "accepted": list(accepted),
    }


def print_certified(  # noqa: PLR0913 - what was asked, and what came of it
    console: Console,
    file: str,
    rechecked: Recheck,
    *,
    asked: int,
    missing: Sequence[Question],
    accepted: Sequence[str],
) -> None:
    """Print what an accepted certificate covers of the handovers that were asked for."""
    text = (
        f"{file}: accepted. z3 confirmed {rechecked.obligations} obligations of "
        f"{rechecked.models} models. Proved: P1 to P3 and {_hangs(rechecked)}."
    )
    console.print(Text(text, style="bold green"))
    _print_accepted(console, accepted)
    if not missing:
        every = "the handover that was asked for"
        if asked > 1:
            every = f"all {asked} handovers that were asked for"
        console.print(f"It proves {every}, for every number of CPUs.")
        return
    console.print(f"Of {asked} that were asked for it says nothing about these handovers:")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    for row in missing:
        table.add_row(row.platform, row.path, transition_words(row))
    console.print(table)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings as Markdown (CommonMark with tables), for tickets, merge requests and mail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from staleline.check.runs.trace import Counterexample
from staleline.report.formats.findings import Findings, HandoverFindings
from staleline.report.words.commonmark import escaped, prose
from staleline.report.words.explanations import explanations
from staleline.report.words.words import flush_words, required_words
from staleline.vocabulary import Site, Verdict

__all__ = ["markdown_text"]

_VERDICTS = {Verdict.SAFE: "safe", Verdict.AT_RISK: "**AT RISK**", Verdict.UNKNOWN: "**unknown**"}


def markdown_text(several: Sequence[Findings]) -> str:
    """One document with a chapter per audit or policy."""
    lines = [line for found in several for line in _chapter(found)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table, and an empty one; cells are Markdown already."""
    for cells in (headings, ["---"] * len(headings), *rows):
        yield f"| {' | '.join(cells)} |"
    yield ""


def _chapter(findings: Findings) -> Iterator[str]:
    yield f"# {escaped(findings.subject)}: {_summary(findings)}"
    yield ""
    yield f"Kernel: {escaped(findings.kernel)} ({escaped(findings.kernel_evidence)})"
    yield ""
    for name, text in findings.asked.items():
        yield from (f"{name.replace('_', ' ').capitalize()}: {escaped(text)}", "")
    yield from _handovers(findings)
    yield from _findings(findings)
    yield from _counterexamples(findings)
    yield from _explained(findings)


def _summary(found: Findings) -> str:
    verdicts = [f"{verdict.upper()} on {path}" for path, verdict in found.by_path.items()]
    return ", ".join(verdicts) or f"{len(found.other)} findings"


def _handovers(findings: Findings) -> Iterator[str]:
    if findings.handovers:
        yield from ("## Handovers", "")
        yield from _table(
            ("handover", "secondaries", "jumping CPU", "required", "verdict", "checked"),
            [list(_row(row)) for row in findings.handovers],
        )


def _row(row: HandoverFindings) -> Iterator[str]:
    secondaries = row.path.secondaries_site
    yield _name(row)
    yield from (flush_words(row, site) for site in (secondaries, Site.RELOCATE_KERNEL))
    yield required_words(row.needed, secondaries, attainable=row.attainable)
    yield _VERDICTS[row.verdict]
    yield "" if row.answer is None else f"{row.answer.kind}, {row.answer.states} states"


def _name(row: HandoverFindings) -> str:
    platform = "" if row.platform is None else f"{row.platform} "
    return escaped(f"{platform}{row.name}")


def _findings(found: Findings) -> Iterator[str]:
    """One row per finding, with every handover that it is about."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for handover, finding in found.each():
        key = (finding.id, finding.level, finding.message)
        where.setdefault(key, []).append("" if handover is None else _name(handover))
    if where:
        yield from ("## Findings", "")
        rows = [
            (level, f"`{name}`", escaped(message), ", ".join(names))
            for (name, level, message), names in where.items()
        ]
        yield from _table(("level", "id", "what", "where"), rows)


def _counterexamples(found: Findings) -> Iterator[str]:
    """One per finding's id and path: more would tell the same story again."""
    shown: set[tuple[str, str]] = set()
    for handover, finding in found.each():
        if handover is None or finding.counterexample is None:
            continue
        if (finding.id, handover.path) not in shown:
            shown.add((finding.id, handover.path))
            yield from (f"## Counterexample, {_name(handover)}", "")
            yield from _steps(finding.counterexample)


def _steps(run: Counterexample) -> Iterator[str]:
    yield from (f"{escaped(run.property)} broken: {escaped(run.title)}", "")
    rows = [
        (str(number), step.actor, f"`{step.function}`", escaped(step.sentence))
        for number, step in enumerate(run.steps, 1)
    ]
    yield from _table(("step", "CPU", "where", "what happens"), rows)


def _explained(found: Findings) -> Iterator[str]:
    names = dict.fromkeys(finding.id for _, finding in found.each())
    if names:
        yield from ("## What they mean", "")
    for name in names:
        page = explanations()[name]
        yield from (f"### `{name}`: {escaped(page.title)}", "", prose(page.means), "")
        yield from (f"**What to do:** {prose(page.do)}", "")

# SPDX-License-Identifier: GPL-2.0-or-later
"""Several audits: a line each, the worst first, and ``staleline/audits/1``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.text import Text

from staleline.errors import StalelineError
from staleline.evidence.contradiction import ContradictionError
from staleline.printable import printable
from staleline.report.formats.findings import Finding, Findings, Level, audit_findings
from staleline.report.machines.audit_json import audit_document
from staleline.report.machines.audit_text import because, meaning
from staleline.report.machines.contradicted import (
    Contradicted,
    contradicted_audit,
    contradicted_findings,
)
from staleline.report.words.console import VERDICT_STYLE
from staleline.report.words.identity import running_name
from staleline.verdict.audit.audit import Audit
from staleline.verdict.audit.cost import Cost
from staleline.vocabulary import WORST_FIRST, Path, Verdict

__all__ = ["AuditOutcome", "audits_document", "outcome_findings", "print_outcomes", "worst_first"]

_NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class AuditOutcome:
    """One machine with one kernel: its audit, or why there is none.

    Attributes:
        machine: A file, or "this host".
        kernel: The old kernel, as the user named it; None if the evidence was to name it.
        paths: Those asked about.
        asked: What else is left out of an audit of everything, by name.
        audit: What was found.
        cost: Of the flushes.
        traces: Written counterexamples by name.
        files: What it rests on.
        error: Why there is no audit.
        host: The machine's own name, where its evidence tells it.
    """

    machine: str
    kernel: str | None
    paths: Sequence[Path]
    asked: Mapping[str, str]
    audit: Audit | None = None
    cost: Cost | None = None
    traces: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()
    error: StalelineError | None = None
    host: str | None = None

    @property
    def verdict(self) -> Verdict:
        """The audit's; what was not judged is unknown."""
        return Verdict.UNKNOWN if self.audit is None else self.audit.verdict

    @property
    def kernel_name(self) -> str:
        """The release or policy, or as the user named it."""
        return self.audit.kernel if self.audit is not None else self.kernel or "not determined"

    @property
    def contradicted(self) -> Contradicted | None:
        """What evidence did not allow, if it contradicts itself."""
        if not isinstance(self.error, ContradictionError):
            return None
        return Contradicted(self.error.contradictions, self.paths, self.kernel, self.asked)

    @property
    def document(self) -> dict[str, Any] | None:
        """``staleline/audit/1``, also of evidence that contradicts itself."""
        if self.audit is not None:
            return audit_document(self.audit, self.traces, self.cost)
        return None if self.contradicted is None else contradicted_audit(self.contradicted)


def worst_first(outcomes: Sequence[AuditOutcome]) -> list[AuditOutcome]:
    """At risk, then what was not judged, unknown, and safe; else as they were asked for."""
    return sorted(outcomes, key=lambda one: (WORST_FIRST.index(one.verdict), one.audit is not None))


def print_outcomes(console: Console, outcomes: Sequence[AuditOutcome]) -> None:
    """A line each: verdicts, machine, kernel, and why."""
    names = _kernel_names(outcomes)
    columns = [
        (_verdicts(outcome), printable(outcome.machine), printable(name))
        for outcome, name in zip(outcomes, names, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    for outcome, cells in zip(outcomes, columns, strict=True):
        verdict, *rest = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        line = Text.assemble((verdict, VERDICT_STYLE[outcome.verdict]), "  ", "  ".join(rest), "  ")
        # A line each even if it is long, as that is what grep and sort take.
        console.print(line.append(printable(_why(outcome))), soft_wrap=True)


def audits_document(outcomes: Sequence[AuditOutcome]) -> dict[str, Any]:
    """The JSON document; evidence that contradicts itself is among the audits too."""
    return {
        "schema": "staleline/audits/1",
        "verdict": worst_first(outcomes)[0].verdict,
        "audits": [
            {"machine": outcome.machine, "kernel": name, "audit": document}
            for outcome, name in zip(outcomes, _kernel_names(outcomes), strict=True)
            if (document := outcome.document) is not None
        ],
        "errors": [
            {"machine": outcome.machine, "kernel": outcome.kernel, "error": str(outcome.error)}
            for outcome in outcomes
            if outcome.error is not None
        ],
    }


def outcome_findings(outcomes: Sequence[AuditOutcome]) -> list[Findings]:
    """The findings of each."""
    return [
        replace(_findings(outcome), kernel=name, host=outcome.host)
        for outcome, name in zip(outcomes, _kernel_names(outcomes), strict=True)
    ]


def _kernel_names(outcomes: Sequence[AuditOutcome]) -> list[str]:
    """Two builds of one release are told apart by how the user named them."""
    count = Counter((outcome.machine, outcome.kernel_name) for outcome in outcomes)
    return [
        f"{outcome.kernel_name} ({outcome.kernel})"
        if outcome.kernel is not None and count[outcome.machine, outcome.kernel_name] > 1
        else outcome.kernel_name
        for outcome in outcomes
    ]


def _verdicts(one: AuditOutcome) -> str:
    if one.audit is None:
        return _NOT_JUDGED
    return ", ".join(f"{path} {verdict}" for path, verdict in one.audit.by_path.items())


def _why(outcome: AuditOutcome) -> str:
    if outcome.audit is None:
        return str(outcome.error)
    what_if = outcome.audit.identity.what_if
    note = f" (what if: {running_name(outcome.audit.identity)} runs there)" if what_if else ""
    return "; ".join(_reasons(outcome.audit)) + note


def _reasons(audit: Audit) -> Iterator[str]:
    """Of the worst verdict."""
    for path, verdict in audit.by_path.items():
        if verdict is not audit.verdict:
            continue
        if verdict is Verdict.SAFE:
            yield from dict.fromkeys(line.removeprefix("because ") for line in because(audit, path))
            return
        if verdict is Verdict.UNKNOWN:
            yield (audit.unknown or (meaning(audit, path),))[0]
            return
        yield f"{path}: {meaning(audit, path)}"


def _findings(outcome: AuditOutcome) -> Findings:
    if outcome.audit is not None:
        return audit_findings(
            outcome.audit, machine=outcome.machine, files=outcome.files, asked=outcome.asked
        )
    if outcome.contradicted is not None:
        return contradicted_findings(
            outcome.contradicted, machine=outcome.machine, files=outcome.files
        )
    return Findings(
        subject=outcome.machine,
        kernel=outcome.kernel_name,
        kernel_evidence="not looked at, because of an error",
        files=tuple(outcome.files),
        # Unknown and not absent: a collector would go on showing the last verdict
        # (docs/decisions.md).
        by_path=dict.fromkeys(outcome.paths, Verdict.UNKNOWN),
        handovers=(),
        other=(Finding("not-judged", Level.ERROR, str(outcome.error)),),
        asked=outcome.asked,
    )

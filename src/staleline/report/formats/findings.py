# SPDX-License-Identifier: GPL-2.0-or-later
"""An audit or a policy's check as findings with ids: what all report formats are made of."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from staleline.check.answer import Answer
from staleline.check.runs.trace import Counterexample
from staleline.model.state.lines import Role
from staleline.report.words.explanations import Kind, bug_id, explanations
from staleline.report.words.identity import identity_words
from staleline.report.words.judged import Judged
from staleline.report.words.words import left_words, state_word, transition_words
from staleline.verdict.audit.audit import Audit, Handover
from staleline.verdict.audit.identity import Identity
from staleline.verdict.handover.readkernel import NamedRule
from staleline.verdict.handover.unknown import Unknown
from staleline.verdict.policies.platforms import PlatformHandover
from staleline.vocabulary import Path, Site, Verdict, worst

__all__ = [
    "LEFT_BEHIND",
    "Finding",
    "Findings",
    "HandoverFindings",
    "Level",
    "Waived",
    "audit_findings",
    "check_findings",
    "checked_handover",
    "unflushed",
    "violation_id",
]

LEFT_BEHIND = "left-behind"
_VIOLATIONS = {
    "P2": "reported-before-flush",
    "P3": "flush-faults",
    "P4": "hang",
    "P5": "late-store",
}


class Level(StrEnum):
    """How much a finding matters; the words are those of SARIF."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Waived:
    """Somebody puts up with a finding.

    Attributes:
        reason: Why.
        until: The last day on which.
    """

    reason: str
    until: datetime.date


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        id: Of its explanation.
        level: How much it matters.
        message: What was found, as a clause.
        sites: Kernel functions that it is about.
        fields: Fields of the evidence that it is about.
        counterexample: The run behind it, for a violation.
        waived: That it does not count, and why.
    """

    id: str
    level: Level
    message: str
    sites: tuple[Site, ...] = ()
    counterexample: Counterexample | None = None
    fields: tuple[str, ...] = ()
    waived: Waived | None = None

    @property
    def kind(self) -> Kind:
        """What its explanation is of."""
        return explanations()[self.id].kind


@dataclass(frozen=True, slots=True)
class HandoverFindings:
    """One handover that was judged, and what was found.

    Attributes:
        platform: The platform class; None for an audit's machine.
        path: How the old kernel hands over.
        old: The old kernel uses the C-bit: on or off.
        next: The next kernel uses the C-bit: on or off.
        sev_guests_run: Lines of SEV guests may be in the caches; None where not told apart.
        transition: All that in a few words, for instance ``off→on, SEV guests``.
        verdict: Safe, at risk, or unknown.
        because: Why, where it is safe.
        flushes: Per site, is WBINVD executed? None where that is not established.
        needed: Per site, is it required? None where that depends.
        attainable: Some choice of flushes makes it safe; else none is required, and none helps.
        unneeded: Sites whose flush nothing requires, and why.
        faults: Sites whose flush traps.
        answer: The model checker's answer.
        findings: The worst first.
    """

    platform: str | None
    path: Path
    old: str
    next: str
    sev_guests_run: bool | None
    transition: str
    verdict: Verdict
    because: str
    flushes: Mapping[Site, bool | None]
    needed: Mapping[Site, bool | None]
    attainable: bool
    unneeded: Mapping[Site, str]
    faults: Collection[Site]
    answer: Answer | None
    findings: tuple[Finding, ...]

    @property
    def name(self) -> str:
        """For instance ``kexec on→off``."""
        return f"{self.path} {self.transition}"


@dataclass(frozen=True, slots=True)
class Findings:
    """What one audit, the check of one policy, the reading of one image, or the like found.

    Attributes:
        subject: What was looked at: a machine, a policy's name, or an image.
        kernel: The old kernel: a release or a policy's name.
        kernel_evidence: How its behaviour is known.
        files: Files that it rests on.
        by_path: The verdict on each path, where all of its handovers were judged.
        handovers: All that were judged.
        other: Findings of no single handover.
        asked: What tells it from others of the same subject and kernel, by names that are labels
            of metrics too.
        host: The machine's own name, where the evidence tells it. Metrics have it for the subject:
            who reads an alert knows hosts, and not where their snapshots lie.
    """

    subject: str
    kernel: str
    kernel_evidence: str
    files: tuple[str, ...]
    by_path: Mapping[Path, Verdict]
    handovers: tuple[HandoverFindings, ...]
    other: tuple[Finding, ...]
    asked: Mapping[str, str] = field(default_factory=dict)
    host: str | None = None

    @property
    def properties(self) -> Mapping[str, str]:
        """What tells it from others, in formats that have a place for it."""
        return {"subject": self.subject, "kernel": self.kernel, **self.asked}

    def each(self) -> Iterator[tuple[HandoverFindings | None, Finding]]:
        """Every finding, with its handover."""
        yield from ((None, finding) for finding in self.other)
        for handover in self.handovers:
            yield from ((handover, finding) for finding in handover.findings)


class _Row(Protocol):
    """What an audit's row and a policy's have in common."""

    @property
    def old(self) -> bool: ...
    @property
    def next(self) -> bool: ...
    @property
    def path(self) -> Path: ...


def audit_findings(
    audit: Audit, *, machine: str, files: Sequence[str], asked: Mapping[str, str] | None = None
) -> Findings:
    """What an audit found.

    Args:
        audit: The audit.
        machine: What was audited: a file name, or "this host".
        files: The snapshot and the image, as far as they were files.
        asked: The next kernel and the path, where not all were asked for.
    """
    handovers = tuple(_audited(row) for row in audit.handovers)
    told = {reason for row in audit.handovers for reason in row.unknown}
    return Findings(
        subject=machine,
        kernel=audit.kernel,
        kernel_evidence=audit.kernel_evidence,
        files=tuple(files),
        by_path=audit.by_path,
        handovers=handovers,
        other=(
            *_what_if(audit.identity),
            # Each reason once, at its handover where it has one.
            *(_unknown(reason) for reason in audit.unknown if reason not in told),
        ),
        asked=asked or {},
    )


def check_findings(
    rule: NamedRule, rows: Sequence[PlatformHandover], asked: Mapping[str, str] | None = None
) -> Findings:
    """What the check of a rule on platform classes found.

    Args:
        rule: A policy, or an image.
        rows: Its handovers.
        asked: What was left out or accepted, where not everything was asked.
    """
    policy, document = rule.policy, rule.document
    return Findings(
        subject=policy.name,
        kernel=policy.name,
        kernel_evidence=rule.kernel.evidence,
        files=() if document is None else (rule.given,),
        by_path={
            path: worst([row.judgement.verdict for row in rows if row.path is path])
            for path in Path
            if any(row.path is path for row in rows)
        },
        handovers=tuple(checked_handover(row) for row in rows),
        other=tuple(Finding(bug_id(bug), Level.NOTE, bug) for bug in policy.bugs),
        asked=asked or {},
    )


def violation_id(counterexample: Counterexample) -> str:
    """The id of what a counterexample shows."""
    if counterexample.property in _VIOLATIONS:
        return _VIOLATIONS[counterexample.property]
    # What is left is P1, whose pages tell apart where the line comes from, and how it ends.
    if Role(counterexample.line).is_left_behind:
        return LEFT_BEHIND
    destroyed = any(change.after == "destroyed" for change in counterexample.steps[-1].changes)
    return "stale-write-back" if destroyed else "stale-read"


def _audited(row: Handover) -> HandoverFindings:
    return _handover(row, row, row.transition)


def checked_handover(row: PlatformHandover) -> HandoverFindings:
    """What was found of one handover of a policy or an image."""
    found = _handover(row, row.judgement, transition_words(row))
    return replace(found, platform=row.platform, sev_guests_run=row.sev_guests_run)


def _handover(row: _Row, judged: Judged, transition: str) -> HandoverFindings:
    return HandoverFindings(
        platform=None,
        path=row.path,
        old=state_word(row.old),
        next=state_word(row.next),
        sev_guests_run=None,
        transition=transition,
        verdict=judged.verdict,
        because=judged.because,
        flushes=judged.flushes,
        needed=judged.needed,
        attainable=judged.attainable,
        unneeded=judged.unneeded,
        faults=judged.faults,
        answer=judged.answer,
        findings=tuple(_findings(judged, row.path)),
    )


def _findings(judged: Judged, path: Path) -> Iterator[Finding]:
    """Of one handover, the worst first."""
    counterexample = None if judged.answer is None else judged.answer.counterexample
    if judged.verdict is Verdict.AT_RISK and counterexample is not None:
        # With every required flush executed, what goes wrong is the secondaries' (P2, P4, P5).
        sites = unflushed(judged) or (path.secondaries_site,)
        message = f"{counterexample.steps[-1].sentence}{_left(judged, counterexample)}"
        yield Finding(violation_id(counterexample), Level.ERROR, message, sites, counterexample)
    for site in judged.faults:
        message = f"{site} executes WBINVD, which traps in this guest"
        yield Finding("flush-faults", Level.ERROR, message, (site,))
    yield from map(_unknown, judged.unknown)
    for site, reason in judged.unneeded.items():
        yield Finding(reason.id, Level.NOTE, f"WBINVD in {site}: {reason}", (site,))


def _what_if(identity: Identity) -> Iterator[Finding]:
    if identity.what_if:
        yield Finding("what-if", Level.NOTE, identity_words(identity))


def _left(judged: Judged, found: Counterexample) -> str:
    """What the run's line is, where it is one that was left behind."""
    if violation_id(found) != LEFT_BEHIND:
        return ""
    words = [
        left_words(site, store.line, store.code, store.through)
        for site, stores in judged.left_behind.items()
        for store in stores
    ]
    return f" Left behind dirty: {'; '.join(words)}."


def unflushed(judged: Judged) -> tuple[Site, ...]:
    """Sites whose flush is required and not executed."""
    return tuple(
        site
        for site, needed in judged.needed.items()
        # And not `not`: of a site of which nothing is known it is not said that it lacks one.
        if needed and judged.flushes.get(site) is False
    )


def _unknown(reason: Unknown) -> Finding:
    return Finding(reason.id, Level.WARNING, reason)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What changes from one rule to another, as findings.

The handovers are those that change, judged under the new rule. A fault is what the new rule
brought in: a handover that was safe and is not, or a WBINVD that traps and was not executed.
What else changes is a note, also that a handover is still not safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from staleline.report.formats.findings import (
    Finding,
    Findings,
    HandoverFindings,
    Level,
    checked_handover,
)
from staleline.report.words.explanations import Kind
from staleline.verdict.policies.difference import ChangedHandover, Difference, SiteDifference
from staleline.vocabulary import Site

__all__ = ["difference_findings"]


def difference_findings(
    difference: Difference, *, old: str, new: str, evidence: str, files: Sequence[str]
) -> Findings:
    """What a comparison found.

    Args:
        difference: The comparison.
        old: The old rule or image, as the user named it.
        new: The new one.
        evidence: How the new one's behaviour is known.
        files: The new one last, if they were files.
    """
    return Findings(
        subject=f"{old} → {new}",
        kernel=difference.new.name,
        kernel_evidence=evidence,
        files=tuple(files),
        by_path={},
        handovers=tuple(_handover(changed) for changed in difference.handovers),
        other=tuple(_of_rules(difference)),
    )


def _of_rules(difference: Difference) -> Iterator[Finding]:
    for site in difference.sites:
        yield from _of_site(site)
    before, after = difference.reported
    if before is not after:
        message = f"a CPU is reported stopped {after}, was {before}".replace("-", " ")
        yield Finding("report-order-changed", Level.NOTE, message, (Site.STOP_THIS_CPU,))


def _of_site(change: SiteDifference) -> Iterator[Finding]:
    for name, words, condition in (
        ("wbinvd-added", "one more WBINVD where", change.added),
        ("wbinvd-dropped", "one WBINVD less where", change.dropped),
    ):
        if condition is not None:
            message = f"{change.site}: {words} {condition}"
            yield Finding(name, Level.NOTE, message, (change.site,))


def _handover(changed: ChangedHandover) -> HandoverFindings:
    now = checked_handover(changed.new)
    findings = (*_judged(changed, now), *_treated(changed))
    return replace(now, findings=findings)


def _judged(changed: ChangedHandover, now: HandoverFindings) -> Iterator[Finding]:
    """What is wrong with the handover now; a note where as much was wrong before."""
    for finding in now.findings:
        # Told by `_treated`, where the WBINVD is a new one.
        if finding.kind is Kind.UNNEEDED:
            continue
        if _is_new(changed, finding):
            yield replace(finding, message=f"new: {finding.message}")
        else:
            message = f"not new: {finding.message}"
            yield replace(finding, level=Level.NOTE, message=message, counterexample=None)
    if changed.better:
        was = changed.old.judgement.verdict
        yield Finding("handover-better", Level.NOTE, f"was {was}, is safe")


def _is_new(changed: ChangedHandover, finding: Finding) -> bool:
    # A WBINVD that traps has no run, and stands beside the verdict: new is that site, whatever the
    # verdict.
    traps = finding.kind is Kind.FAULT and finding.counterexample is None
    return not set(finding.sites) <= set(changed.old.judgement.faults) if traps else changed.worse


def _treated(changed: ChangedHandover) -> Iterator[Finding]:
    """Which WBINVDs come or go."""
    unneeded = changed.new.judgement.unneeded
    for site in changed.new.judgement.flushes:
        match changed.flushes(site):
            case (False, True):
                reason = f", unneeded: {unneeded[site]}" if site in unneeded else ""
                message = f"one more WBINVD in {site}{reason}"
                yield Finding("wbinvd-added", Level.NOTE, message, (site,))
            case (True, False):
                message = f"one WBINVD less in {site}"
                yield Finding("wbinvd-dropped", Level.NOTE, message, (site,))

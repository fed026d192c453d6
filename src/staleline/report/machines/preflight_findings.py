# SPDX-License-Identifier: GPL-2.0-or-later
"""A preflight as findings: those of its audit, and its remarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from staleline.report.formats.findings import Finding, Findings, Level, audit_findings
from staleline.verdict.audit.preflight import Preflight
from staleline.verdict.audit.remarks import Remark
from staleline.vocabulary import Verdict

__all__ = ["preflight_findings"]

#: Remarks of what is to be put right before the load, whatever the verdict is.
_WARNINGS = frozenset(
    {
        "load-refused",
        "load-may-be-refused",
        "no-reservation",
        "reboot-force",
        "what-if",
        "guessed-rule",
    }
)


def preflight_findings(
    checked: Preflight,
    *,
    machine: str,
    files: Sequence[str],
    host: str | None,
    asked: Mapping[str, str],
) -> Findings:
    """What a preflight found.

    Args:
        checked: The preflight.
        machine: What was looked at: a file name, or "this host".
        files: The snapshot and the running kernel's image, as far as they were files.
        host: The machine's own name, where its evidence tells it.
        asked: The load, and what it is loaded with.
    """
    accepted = {"accepted": " ".join(checked.accepted)} if checked.accepted else {}
    told_apart = {**asked, **accepted}
    audited = audit_findings(checked.audit, machine=machine, files=files, asked=told_apart)
    remarks = {remark.id for remark in checked.remarks}
    # Of what is both in the audit and among the remarks, the remark says more.
    other = [finding for finding in audited.other if finding.id not in remarks]
    told = replace(audited, other=(*other, *map(_remark, checked.remarks)))
    return replace(
        told,
        # The load's and not the handover's: what is objected to would be safe in all formats.
        by_path={checked.path: checked.verdict},
        other=(*_objections(checked, told), *told.other),
        host=host,
    )


def _objections(checked: Preflight, told: Findings) -> Iterator[Finding]:
    """Those that neither a handover nor a remark tells."""
    known = {finding.id for _, finding in told.each()}
    for objection in checked.objections:
        if objection.id not in known:
            level = Level.ERROR if objection.verdict is Verdict.AT_RISK else Level.WARNING
            yield Finding(objection.id, level, objection.text)


def _remark(remark: Remark) -> Finding:
    level = Level.WARNING if remark.id in _WARNINGS else Level.NOTE
    return Finding(remark.id, level, remark.text)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A preflight as findings: those of its audit, and its remarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from staleline.report.formats.findings import Finding, Findings, Level, audit_findings
from staleline.verdict.audit.preflight import Preflight
from staleline.verdict.audit.remarks import Remark

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
    checked: Preflight, *, machine: str, files: Sequence[str], host: str | None
) -> Findings:
    """What a preflight found.

    Args:
        checked: The preflight.
        machine: What was looked at: a file name, or "this host".
        files: The snapshot and the running kernel's image, as far as they were files.
        host: The machine's own name, where its evidence tells it.
    """
    asked = {"next_kernel": checked.image.image.path, "path": str(checked.path)}
    audited = audit_findings(checked.audit, machine=machine, files=files, asked=asked)
    remarks = {remark.id for remark in checked.remarks}
    # Of what is both in the audit and among the remarks, the remark says more.
    other = [finding for finding in audited.other if finding.id not in remarks]
    return replace(audited, other=(*other, *map(_remark, checked.remarks)), host=host)


def _remark(remark: Remark) -> Finding:
    level = Level.WARNING if remark.id in _WARNINGS else Level.NOTE
    return Finding(remark.id, level, remark.text)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What is written where the evidence contradicts itself, before the error that ends the command."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from staleline.cli.console.output import Output
    from staleline.report.machines.contradicted import Contradicted

__all__ = ["write_contradicted"]


def write_contradicted(
    output: Output,
    audit: Contradicted,
    document: dict[str, Any],
    snapshot_file: str | None,
    host: str | None,
) -> None:
    """Write the findings or the JSON document; as text the line of the error is all of it."""
    from staleline.report.machines.contradicted import contradicted_findings

    if output.of_findings:
        files = [snapshot_file] if snapshot_file else []
        machine = snapshot_file or "this host"
        findings = contradicted_findings(audit, machine=machine, files=files)
        output.write_findings([replace(findings, host=host)])
    elif output.format == "json":
        output.write_json(document)

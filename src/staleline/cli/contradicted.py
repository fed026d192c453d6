# SPDX-License-Identifier: GPL-2.0-or-later
"""What is written where the evidence contradicts itself, before the error that ends the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staleline.cli.output import Output
    from staleline.errors import ContradictionError
    from staleline.vocabulary import Path

__all__ = ["write_contradicted_audit"]


def write_contradicted_audit(
    output: Output,
    error: ContradictionError,
    *,
    snapshot_file: str | None,
    kernel: str | None,
    paths: Sequence[Path],
) -> None:
    """Write the report of an audit; as text the line of the error is all of it."""
    from staleline.report.contradicted import (
        Contradicted,
        contradicted_audit,
        contradicted_findings,
    )

    audit = Contradicted(error.found, paths, kernel)
    if output.of_findings:
        files = [snapshot_file] if snapshot_file else []
        machine = snapshot_file or "this host"
        output.write_findings([contradicted_findings(audit, machine=machine, files=files)])
    elif output.format == "json":
        output.write_json(contradicted_audit(audit))

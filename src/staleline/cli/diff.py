# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline diff``: what changes from one policy or kernel image to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from staleline.cli.console.once import Once
from staleline.cli.console.output import Output, output_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staleline.verdict.policies.difference import Difference, RuledKernel

__all__ = ["command"]

_REFUSED = {"prometheus": "metrics are of one state, and a comparison is of two"}


@click.command("diff", cls=Once)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--no-cache", is_flag=True, help="Read images anew, and keep nothing.")
@output_options(_REFUSED)
def command(*, old: str, new: str, no_cache: bool, output: Output) -> int:
    """Compare two rules: where they differ, and which handovers change at what cost.

    OLD and NEW are policies of the catalogue, policy files (.toml) or kernel images.

    Exit status: 0 if nothing that was safe becomes unsafe, 1 error, 2 otherwise.
    """
    from staleline.cli.console.tracking import with_progress
    from staleline.kernel.reading.many import ReadingOptions
    from staleline.verdict.handover.readkernel import ruled_kernels
    from staleline.verdict.policies.difference import compare_kernels

    kernels = ruled_kernels(
        (old, new), ReadingOptions(use_cache=not no_cache, tracked=with_progress)
    )
    difference = compare_kernels(*kernels)
    _write(output, difference, kernels, (old, new))
    return 2 if any(changed.worse for changed in difference.handovers) else 0


def _write(
    output: Output,
    difference: Difference,
    kernels: Sequence[RuledKernel],
    names: tuple[str, str],
) -> None:
    from staleline.report.policies.difference import difference_document, print_difference

    if output.of_findings:
        from staleline.report.policies.difference_findings import difference_findings

        old, new = names
        evidence = kernels[1].evidence
        found = difference_findings(
            difference, old=old, new=new, evidence=evidence, files=_files(names)
        )
        output.write_findings([found])
    elif output.format == "json":
        output.write_json(difference_document(difference))
    else:
        with output.console() as console:
            print_difference(console, difference)


def _files(names: tuple[str, str]) -> list[str]:
    """Those that are files; none if the new one is not, which functions are looked for in."""
    from staleline.policy.catalogue import catalogue

    files = [name for name in names if name not in catalogue()]
    return files if names[1] in files else []

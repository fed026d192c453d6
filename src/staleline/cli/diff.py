# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline diff``: what changes from one policy or kernel image to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from staleline.cli.console.once import Once
from staleline.cli.console.output import MAIL, Output, command_line, output_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staleline.verdict.handover.readkernel import NamedRule
    from staleline.verdict.policies.difference import Difference

__all__ = ["command"]

_REFUSED = {"prometheus": "metrics are of one state, and a comparison is of two"}


@click.command("diff", cls=Once)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--no-cache", is_flag=True, help="Read images anew, and keep nothing.")
@output_options(_REFUSED, extra=(MAIL,))
def command(*, old: str, new: str, no_cache: bool, output: Output) -> int:
    """Compare two rules: where they differ, and which handovers change at what cost.

    OLD and NEW are policies of the catalogue, policy files (.toml) or kernel images.

    Exit status: 0 if nothing that was safe becomes unsafe, 1 error, 2 otherwise.
    """
    from staleline.cli.console.tracking import with_progress
    from staleline.kernel.reading.imagereport import ReadingOptions
    from staleline.verdict.handover.namedrules import named_rules
    from staleline.verdict.policies.difference import compare_kernels

    rules = named_rules((old, new), ReadingOptions(use_cache=not no_cache, tracked=with_progress))
    difference = compare_kernels(*(rule.required() for rule in rules))
    _write(output, difference, rules)
    return 2 if any(changed.worse for changed in difference.handovers) else 0


def _write(
    output: Output,
    difference: Difference,
    rules: Sequence[NamedRule],
) -> None:
    from staleline.report.policies.difference import difference_document, print_difference

    if output.of_findings:
        from staleline.report.policies.difference_findings import difference_findings

        # What is found is what the new one brings in.
        old, new = (rule.given for rule in rules)
        evidence = rules[1].kernel.evidence
        findings = difference_findings(
            difference, old=old, new=new, evidence=evidence, files=_files((old, new))
        )
        output.write_findings([findings])
    elif output.format == MAIL:
        from staleline.report.policies.lkml import Mail, difference_mail

        mail = Mail(command_line(), output.ascii)
        output.write(difference_mail(mail, difference, *rules))
    else:
        output.show(
            lambda: difference_document(difference),
            lambda console: print_difference(console, difference),
        )


def _files(names: tuple[str, str]) -> list[str]:
    """Those that are files; none if the new one is not, which functions are looked for in."""
    from staleline.policy.catalogue import catalogue

    files = [name for name in names if name not in catalogue()]
    return files if names[1] in files else []

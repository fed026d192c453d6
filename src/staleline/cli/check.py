# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline check``: model-check rules on every platform, transition and path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from staleline.cli.console.once import Once
from staleline.cli.console.output import MAIL, Output, command_line, output_options
from staleline.cli.console.selecting import Wanted, selection_options
from staleline.cli.console.waived import tell_waivers, waivers_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staleline.report.formats.findings import Findings
    from staleline.report.formats.waivers import Waivers
    from staleline.report.policies.check import RuleCheck
    from staleline.verdict.handover.readkernel import NamedRule
    from staleline.verdict.policies.exact import ExactCheck
    from staleline.verdict.policies.platforms import PlatformHandover

__all__ = ["command"]

#: With so many CPUs an exact check takes seconds; with more, its time is told beforehand.
_QUICK = 64
_MINUTE = 90


@click.command("check", cls=Once)
@click.argument("rules", nargs=-1, required=True, metavar="RULE...")
@selection_options()
@click.option(
    "--cpus",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Check for exactly N CPUs as well, by decision diagrams.",
)
@waivers_option
@click.option("--no-cache", is_flag=True, help="Read images anew, and keep nothing.")
@output_options(extra=(MAIL,))
def command(  # noqa: PLR0913 - one parameter per option
    *,
    rules: tuple[str, ...],
    wanted: Wanted,
    cpus: int | None,
    waivers: str | None,
    no_cache: bool,
    output: Output,
) -> int:
    """Check rules on every platform class: what holds, what does not, and why.

    A RULE is a policy of the catalogue, a policy file (.toml), or a kernel image.

    Exit status: 0 safe everywhere, 1 error, 2 at risk somewhere, 3 unknown somewhere; what is
    waived does not count.
    """
    from staleline.cli.console.tracking import with_progress
    from staleline.errors import UsageError
    from staleline.kernel.reading.imagereport import ReadingOptions
    from staleline.report.formats.waivers import read_waivers
    from staleline.verdict.handover.namedrules import named_rules

    if cpus is not None and output.of_findings:
        # They have no place for it, and nobody would know why the status is 3.
        raise UsageError(
            f"--cpus is not told by --format {output.format}", do="leave it out, or give --json"
        )
    options = ReadingOptions(use_cache=not no_cache, tracked=with_progress)
    # Before the rules: to read an image takes long, and a fault in waivers is told at once.
    accepted = read_waivers(waivers) if waivers is not None else None
    # Each once: the same samples twice are refused by collectors of metrics.
    several = named_rules(tuple(dict.fromkeys(rules)), options)
    checked = [_check(rule, wanted, cpus) for rule in several]
    findings = _findings(checked, accepted) if accepted is not None or output.of_findings else []
    _write(output, checked, findings, waived=accepted is not None)
    if accepted is not None:
        tell_waivers(accepted, output)
    return _status(checked, None if accepted is None else findings)


def _check(rule: NamedRule, wanted: Wanted, cpus: int | None) -> RuleCheck:
    from dataclasses import replace

    from staleline.errors import UsageError
    from staleline.report.policies.check import RuleCheck
    from staleline.report.words.progress import tracked
    from staleline.verdict.policies.platforms import check_kernel, count_handovers

    selection, kernel = wanted.selection, rule.kernel
    total = count_handovers(kernel, selection)
    if not total:
        raise UsageError("no handover fits the selection", do="select less narrowly")
    rows = tuple(tracked(check_kernel(kernel, selection), rule.name, total))
    fewer = 0
    # Once more without it, to tell how much is safe only for it.
    if selection.load_settled:
        without = tuple(check_kernel(kernel, replace(selection, load_settled=False)))
        fewer = _safe(rows) - _safe(without)
    exact = None if cpus is None else _exactly(rows, cpus)
    return RuleCheck(rule, rows, exact, wanted.accepted, fewer, selection)


def _safe(rows: Sequence[PlatformHandover]) -> int:
    from staleline.vocabulary import Verdict

    return sum(row.judgement.verdict is Verdict.SAFE for row in rows)


def _exactly(rows: Sequence[PlatformHandover], cpus: int) -> ExactCheck:
    from staleline.cores import usable_cores
    from staleline.report.words.progress import tracked
    from staleline.verdict.policies.exact import (
        agreement,
        distinct_models,
        expected_seconds,
        explored_models,
    )

    models, cores = distinct_models(rows), usable_cores()
    # With few CPUs it takes longer to start processes than to check.
    jobs = 1 if cpus <= _QUICK else min(cores, len(models))
    if cpus > _QUICK:
        seconds = expected_seconds(models, cpus) / jobs
        told = f"{seconds / 60:.0f} min" if seconds > _MINUTE else f"{seconds:.0f} s"
        click.echo(
            f"staleline: {len(models)} models with {cpus} CPUs each: about {told} on {jobs} cores",
            err=True,
        )
    explored = explored_models(models, cpus, jobs)
    return agreement(rows, tuple(tracked(explored, f"{cpus} CPUs", len(models))), cpus)


def _findings(checked: Sequence[RuleCheck], waivers: Waivers | None) -> list[Findings]:
    from collections import Counter
    from dataclasses import replace

    from staleline.report.formats.findings import check_findings
    from staleline.report.policies.selected import selected_labels

    findings = [
        check_findings(one.rule, one.rows, selected_labels(one.selection)) for one in checked
    ]
    # Two builds of one release, or two policies of one name, by their files.
    told = Counter(one.subject for one in findings)
    names = [
        f"{one.subject} ({rule.rule.given})" if told[one.subject] > 1 else one.subject
        for one, rule in zip(findings, checked, strict=True)
    ]
    findings = [
        replace(one, subject=name, kernel=name) for one, name in zip(findings, names, strict=True)
    ]
    return findings if waivers is None else [waivers.applied(one) for one in findings]


def _write(
    output: Output, checked: Sequence[RuleCheck], findings: Sequence[Findings], *, waived: bool
) -> None:
    from staleline.report.policies.check import check_document, print_check

    if output.of_findings:
        output.write_findings(findings)
    elif output.format == MAIL:
        from staleline.report.policies.lkml import Mail, check_mail

        output.write(check_mail(Mail(command_line(), output.ascii), checked))
    elif output.format == "json":
        documents = [check_document(one) for one in checked]
        if waived:
            from staleline.report.formats.waivers import waived_fields

            for document, told in zip(documents, findings, strict=True):
                document["waived"] = waived_fields([told])
        output.write_json(*documents)
    else:
        with output.console() as console:
            for one in checked:
                print_check(console, one)


def _status(checked: Sequence[RuleCheck], waived: Sequence[Findings] | None) -> int:
    """By what was found with waivers, where there are any."""
    from staleline.report.formats.findings import Level
    from staleline.vocabulary import Verdict

    if waived is None:
        verdicts = {row.judgement.verdict for one in checked for row in one.rows}
    else:
        verdicts = {
            row.verdict
            for findings in waived
            for row in findings.handovers
            # What is waived has become a note.
            if any(finding.level is not Level.NOTE for finding in row.findings)
        }
    if Verdict.AT_RISK in verdicts:
        return 2
    # Where two engines disagree one of them is wrong, and nothing is known.
    disagreeing = any(one.exact is not None and one.exact.disagreeing for one in checked)
    return 3 if disagreeing or Verdict.UNKNOWN in verdicts else 0

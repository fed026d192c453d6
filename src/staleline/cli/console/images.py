# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wanted of images that were read, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from staleline.cli.console.output import LINES, Output

if TYPE_CHECKING:
    from staleline.cli.machine import GivenMachine
    from staleline.kernel.reading.imagereport import ImageReport
    from staleline.report.formats.findings import Findings
    from staleline.report.formats.waivers import Waivers
    from staleline.report.images.series import SeriesStep

__all__ = ["AskedOfImages", "findings_of_images", "write_images"]


@dataclass(frozen=True, slots=True)
class AskedOfImages:
    """What is wanted of the images."""

    since: str | None
    series: bool
    explain: bool
    syntax: str
    as_policy: bool
    matrix: bool
    brief: bool
    full: bool
    all_sites: bool
    waivers: str | None

    def refuse_mixtures(self, machine: GivenMachine, output: Output) -> None:
        """Of two things that exclude each other.

        Raises:
            UsageError: There are such two.
        """
        kinds = {
            "--since": self.since,
            "--series": self.series,
            "--explain": self.explain,
            "--matrix": self.matrix,
            "--as-policy": self.as_policy,
        }
        chosen = [name for name, given in kinds.items() if given]
        if len(chosen) > 1:
            raise click.UsageError(f"{chosen[0]} and {chosen[1]} do not go together")
        if (machine.msr or machine.cmdline) and machine.file is None:
            raise click.UsageError("--msr and --cmdline describe the machine of --snapshot")
        if self.brief and output.format not in ("json", LINES):
            raise click.UsageError("--brief is for --format json and jsonl")
        if chosen and (self.brief or output.format == LINES):
            raise click.UsageError(f"a line per image has nothing of {chosen[0]}")
        compares = self.since or self.series
        refused = ("prometheus",) if compares else ()
        if (chosen and not compares and output.of_findings) or output.format in refused:
            raise click.UsageError(f"{chosen[0]} has no --format {output.format}")


def write_images(  # noqa: PLR0913 - all that is known
    asked: AskedOfImages,
    reports: Sequence[ImageReport],
    steps: Sequence[SeriesStep],
    skipped: Sequence[str],
    *,
    findings: Sequence[Findings],
    output: Output,
) -> None:
    """Write what is wanted of them, in the wanted format."""
    if output.of_findings:
        output.write_findings(findings, together=True)
    elif asked.since or asked.series:
        _print_changes(asked, reports, steps, findings=findings, output=output)
    elif asked.explain:
        _print_explanations(reports, output=output)
    elif asked.matrix:
        _print_matrix(reports, output=output)
    elif asked.brief or output.format == LINES:
        _print_lines(asked, reports, findings, output=output)
    else:
        _print(asked, reports, skipped, findings=findings, output=output)


def _waived(asked: AskedOfImages, findings: Sequence[Findings]) -> dict[str, Any]:
    """What counts no more, for documents, which have the verdicts as they are."""
    if asked.waivers is None:
        return {}
    from staleline.report.formats.waivers import waived_fields

    return {"waived": waived_fields(findings)}


def findings_of_images(
    asked: AskedOfImages,
    reports: Sequence[ImageReport],
    steps: Sequence[SeriesStep],
    waivers: Waivers | None,
) -> list[Findings]:
    """Of comparisons what they brought in, else what each image was read to do."""
    from staleline.report.images.image_findings import image_findings
    from staleline.report.images.series import change_findings

    if asked.since or asked.series:
        findings = [change_findings(step) for step in steps]
    else:
        findings = [image_findings(report) for report in reports]
    return findings if waivers is None else [waivers.applied(one) for one in findings]


def _print(
    asked: AskedOfImages,
    reports: Sequence[ImageReport],
    skipped: Sequence[str],
    *,
    findings: Sequence[Findings],
    output: Output,
) -> None:
    full = asked.full or asked.all_sites
    if output.format == "json":
        from staleline.report.images.kernel_json import kernel_document

        told = {"skipped": list(skipped), **_waived(asked, findings)}
        output.write_json({**kernel_document(reports), **told})
        return
    from staleline.report.images.kernel_text import print_image, print_images

    with output.console() as console:
        if full or len(reports) == 1:
            for report in reports:
                print_image(console, report, full=full, all_sites=asked.all_sites)
        else:
            print_images(console, reports)


def _print_changes(
    asked: AskedOfImages,
    reports: Sequence[ImageReport],
    steps: Sequence[SeriesStep],
    *,
    findings: Sequence[Findings],
    output: Output,
) -> None:
    """What changed from one build to the other of each pair, as far as they were read."""
    from staleline.report.images.builds import change_document, print_change
    from staleline.report.images.kernel_json import kernel_document
    from staleline.report.images.series import first_bad, print_series

    changes = [step.change for step in steps if step.change is not None]
    if output.format == "json":
        since = [change_document(change) for change in changes]
        series = {"first_bad": first_bad(steps)} if asked.series else {}
        told = {"since": since, **series, **_waived(asked, findings)}
        output.write_json({**kernel_document(reports), **told})
        return
    with output.console() as console:
        if asked.series:
            print_series(console, steps)
            return
        for change in changes:
            print_change(console, change)


def _print_explanations(reports: Sequence[ImageReport], *, output: Output) -> None:
    from staleline.report.images.guards import explanation_document, print_explanations
    from staleline.report.images.kernel_json import kernel_document

    if output.format == "json":
        explained = [[explanation_document(one) for one in r.explanations] for r in reports]
        output.write_json({**kernel_document(reports), "explanations": explained})
        return
    with output.console() as console:
        for report in reports:
            if report.error is None:
                print_explanations(console, report.image, report.explanations)


def _print_matrix(reports: Sequence[ImageReport], *, output: Output) -> None:
    from staleline.report.images.matrix import matrix_document, print_matrix

    output.show(lambda: matrix_document(reports), lambda console: print_matrix(console, reports))


def _print_lines(
    asked: AskedOfImages,
    reports: Sequence[ImageReport],
    findings: Sequence[Findings],
    *,
    output: Output,
) -> None:
    from staleline.report.images.brief import brief_document
    from staleline.report.images.kernel_json import kernel_document

    if asked.brief:
        documents = list(map(brief_document, reports))
    elif asked.waivers is None:
        documents = [kernel_document([one]) for one in reports]
    else:
        documents = [
            {**kernel_document([report]), **_waived(asked, [told])}
            for report, told in zip(reports, findings, strict=True)
        ]
    if output.format == LINES:
        output.write_json_lines(documents)
    else:
        output.write_json(*documents, files=False)

# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline kernel``: the rule that images carry, read by running their own code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from staleline.cli.console import streams
from staleline.cli.console.once import Once
from staleline.cli.console.output import LINES, Output, output_options
from staleline.cli.machine import GivenMachine, machine_options, on_machine

if TYPE_CHECKING:
    from staleline.kernel.file.pools import ImagePool
    from staleline.kernel.reading.many import ImageReport, ReadingOptions

__all__ = ["command"]


@click.command("kernel", cls=Once)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@machine_options(
    snapshot="Also say what they do on this machine.",
    msr="An MSR the snapshot lacks.",
    cmdline="The kernel's command line on that machine.",
    state=None,
)
@click.option("--since", metavar="IMAGE", help="What changed from this build to each of them.")
@click.option(
    "--explain", is_flag=True, help="Show the instructions that decide, and their inputs."
)
@click.option(
    "--syntax",
    type=click.Choice(["intel", "att"]),
    default="intel",
    show_default=True,
    help="How --explain writes instructions.",
)
@click.option(
    "--as-policy", is_flag=True, help="Write the rule of one image as a policy file (TOML)."
)
@click.option("--full", is_flag=True, help="Everything of each image, however many.")
@click.option("--all-sites", is_flag=True, help="List every WBINVD in the code (with --full).")
@click.option("--jobs", type=click.IntRange(1), help="Images at a time; default: one per core.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up an image after this time.",
)
@click.option("--no-cache", is_flag=True, help="Read every image anew, and keep nothing.")
@click.option("--brief", is_flag=True, help="With --format json or jsonl: under 4 kB an image.")
@click.option("--matrix", is_flag=True, help="Kernels against the rules of the catalogue.")
@output_options(extra=(LINES,))
def command(  # noqa: PLR0913 - one parameter per option
    *,
    images: tuple[str, ...],
    machine: GivenMachine,
    since: str | None,
    explain: bool,
    syntax: str,
    as_policy: bool,
    full: bool,
    all_sites: bool,
    jobs: int | None,
    timeout: float,
    no_cache: bool,
    brief: bool,
    matrix: bool,
    output: Output,
) -> int:
    """Which rule do these images carry, and when do they execute WBINVD?

    An IMAGE may be a directory, of which all kernels and packages are read, an ISO image (with
    pycdlib installed), or - for a list of files on standard input. Packages without a kernel in
    these are skipped and counted.

    Each image's own code is run for every combination of what CPUID, MSRs and the command
    line may say. What was read is kept under ~/.cache/staleline.

    Exit status: 0 if every image was read to its end, 1 if one could not be read (whatever
    else was found), 3 if something of one is unknown.
    """
    from staleline.cli.console.tracking import with_progress
    from staleline.kernel.file.pools import ImagePool
    from staleline.kernel.reading.many import ReadingOptions, explained, read_images

    options = ReadingOptions(jobs, timeout, use_cache=not no_cache, tracked=with_progress)
    if since and explain:
        raise click.UsageError("--since and --explain do not go together")
    if (machine.msr or machine.cmdline) and machine.file is None:
        raise click.UsageError("--msr and --cmdline describe the machine of --snapshot")
    if output.of_findings and (since or explain):
        raise click.UsageError(f"--since and --explain have no --format {output.format}")
    if as_policy:
        return _write_policy(images, options, output)
    if brief and output.format not in ("json", LINES):
        raise click.UsageError("--brief is for --format json and jsonl")
    if output.format == LINES and (since or explain or matrix):
        raise click.UsageError("--format jsonl has a line per image, and nothing of several")
    if matrix and output.of_findings:
        raise click.UsageError(f"--matrix has no --format {output.format}")
    behaviour = None if machine.file is None else partial(on_machine, machine.checked())
    with ImagePool() as pool:
        pool.add(images, sys.stdin)
        files = (*pool.images, since) if since else pool.images
        reports = read_images(files, options, behaviour)
        if explain:
            reports = explained(reports, options, att=syntax == "att")
    reports = [_called(report, pool) for report in reports]
    if since:
        _print_changes(reports[-1], reports[:-1], output=output)
    elif explain:
        _print_explanations(reports, output=output)
    elif matrix:
        _print_matrix(reports, output=output)
    elif brief or output.format == LINES:
        _print_lines(reports, brief=brief, output=output)
    else:
        _print(reports, pool.skipped, full=full or all_sites, all_sites=all_sites, output=output)
    if pool.skipped:
        count = len(pool.skipped)
        streams.complain(f"{count} package{'' if count == 1 else 's'} without kernel skipped")
    for report in reports:
        if report.error is not None:
            streams.complain(report.error)
    return _status(reports)


def _called(report: ImageReport, pool: ImagePool) -> ImageReport:
    """What lay in an archive is called by that, and not by the file it was put into."""
    called = pool.called.get(report.image)
    if called is None:
        return report
    error = report.error and report.error.replace(report.image, called)
    return replace(report, image=called, error=error)


def _print_lines(reports: Sequence[ImageReport], *, brief: bool, output: Output) -> None:
    from staleline.report.images.brief import brief_document
    from staleline.report.images.kernel_json import kernel_document

    documents = [brief_document(one) if brief else kernel_document([one]) for one in reports]
    if output.format == LINES:
        output.write_json_lines(documents)
    else:
        output.write_json(*documents)


def _print_matrix(reports: Sequence[ImageReport], *, output: Output) -> None:
    from staleline.report.images.matrix import matrix_document, print_matrix

    if output.format == "json":
        output.write_json(matrix_document(reports))
        return
    with output.console() as console:
        print_matrix(console, reports)


def _write_policy(images: Sequence[str], options: ReadingOptions, output: Output) -> int:
    """One image's rule as a policy file; a rule of which a part is unknown makes none."""
    from staleline.kernel.reading.imagerule import policy_file
    from staleline.kernel.reading.many import read_images

    if len(images) != 1:
        raise click.UsageError("--as-policy is for one image")
    (report,) = read_images(images, options)
    output.write(policy_file(report.required(), report.image))
    return 0


def _print(
    reports: Sequence[ImageReport],
    skipped: Sequence[str],
    *,
    full: bool,
    all_sites: bool,
    output: Output,
) -> None:
    from staleline.report.images.kernel_json import kernel_document
    from staleline.report.images.kernel_text import print_image, print_images

    if output.of_findings:
        from staleline.report.images.image_findings import image_findings

        output.write_findings([image_findings(report) for report in reports], together=True)
    elif output.format == "json":
        output.write_json({**kernel_document(reports), "skipped": list(skipped)})
    else:
        with output.console() as console:
            if full or len(reports) == 1:
                for report in reports:
                    print_image(console, report, full=full, all_sites=all_sites)
            else:
                print_images(console, reports)


def _print_changes(old: ImageReport, reports: Sequence[ImageReport], *, output: Output) -> None:
    """What changed from one build to each of the others, as far as they were read."""
    from staleline.report.images.builds import change_document, print_change
    from staleline.report.images.kernel_json import kernel_document
    from staleline.verdict.policies.builds import build_change

    changes = [
        build_change(old.document, report.document, old_image=old.image, new_image=report.image)
        for report in reports
        if old.document is not None and report.document is not None
    ]
    if output.format == "json":
        since = [change_document(change) for change in changes]
        output.write_json({**kernel_document(reports), "since": since})
    else:
        with output.console() as console:
            for change in changes:
                print_change(console, change)


def _print_explanations(reports: Sequence[ImageReport], *, output: Output) -> None:
    from staleline.report.images.guards import explanation_document, print_explanations
    from staleline.report.images.kernel_json import kernel_document

    if output.format == "json":
        found = [[explanation_document(one) for one in r.explanations] for r in reports]
        output.write_json({**kernel_document(reports), "explanations": found})
        return
    with output.console() as console:
        for report in reports:
            if report.error is None:
                print_explanations(console, report.image, report.explanations)


def _status(reports: Sequence[ImageReport]) -> int:
    from staleline.report.images.kernel_json import unknowns

    if any(report.error is not None for report in reports):
        return 1
    return 3 if any(unknowns(report) for report in reports) else 0

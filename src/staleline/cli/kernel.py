# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline kernel``: the rule that images carry, read by running their own code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from staleline.cli.console import streams
from staleline.cli.console.images import AskedOfImages, findings_of_images, write_images
from staleline.cli.console.once import Once
from staleline.cli.console.output import LINES, Output, output_options
from staleline.cli.console.waived import given_waivers, tell_waivers, waivers_option
from staleline.cli.machine import GivenMachine, machine_options, on_machine
from staleline.errors import UsageError

if TYPE_CHECKING:
    from staleline.kernel.file.pools import ImagePool
    from staleline.kernel.reading.imagereport import ImageReport, ReadingOptions
    from staleline.report.formats.findings import Findings
    from staleline.report.images.series import SeriesStep

__all__ = ["command"]


@click.command("kernel", cls=Once)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@machine_options(
    snapshot="Also say what they do on this machine.",
    msr="An MSR the snapshot lacks.",
    cmdline="The kernel's command line on that machine.",
    state=None,
)
@click.option(
    "--since",
    metavar="IMAGE",
    help="What changed from this build, or from the JSON of an earlier run, to each of them.",
)
@click.option(
    "--series", is_flag=True, help="What changed from each of them to the next: first bad named."
)
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
@click.option("--matrix", is_flag=True, help="Kernels against the rules of the catalogue.")
@click.option("--brief", is_flag=True, help="With --format json or jsonl: under 4 kB an image.")
@click.option("--full", is_flag=True, help="Everything of each image, however many.")
@click.option("--all-sites", is_flag=True, help="List every WBINVD in the code (with --full).")
@waivers_option
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
@output_options(extra=(LINES,))
def command(  # noqa: PLR0913 - one parameter per option
    *,
    images: tuple[str, ...],
    machine: GivenMachine,
    jobs: int | None,
    timeout: float,
    no_cache: bool,
    output: Output,
    **wanted: Any,
) -> int:
    """Which rule do these images carry, and when do they execute WBINVD?

    An IMAGE may be a directory, of which all kernels and packages are read, an ISO image (with
    pycdlib installed), or - for a list of files on standard input. Packages without a kernel in
    these are skipped and counted.

    Each image's own code is run for every combination of what CPUID, MSRs and the command
    line may say. What was read is kept under ~/.cache/staleline.

    Exit status: 0 if every image was read to its end, 1 if one could not be read (whatever
    else was found), 3 if something of one is unknown; with --since or --series 2 if something
    that was safe is not any more.
    """
    from staleline.cli.console.tracking import with_progress
    from staleline.kernel.file.pools import ImagePool
    from staleline.kernel.reading.imagereport import ReadingOptions
    from staleline.kernel.reading.many import explained, read_images

    options = ReadingOptions(jobs, timeout, use_cache=not no_cache, tracked=with_progress)
    asked = AskedOfImages(**wanted)
    asked.refuse_mixtures(machine, output)
    if asked.as_policy:
        return _write_policy(images, options, output)
    waivers = given_waivers(asked.waivers)
    behaviour = None if machine.file is None else partial(on_machine, machine.checked())
    with ImagePool() as pool:
        pool.add(images, sys.stdin)
        reports = read_images(pool.images, options, behaviour)
        # Within, as files that were unpacked go with the pool.
        if asked.explain:
            reports = explained(reports, options, att=asked.syntax == "att")
    reports = [_called(report, pool) for report in reports]
    steps = _steps(asked, reports, options)
    needed = waivers is not None or output.of_findings
    findings = findings_of_images(asked, reports, steps, waivers) if needed else []
    write_images(asked, reports, steps, pool.skipped, findings=findings, output=output)
    _complain(reports, pool.skipped)
    if waivers is not None:
        tell_waivers(waivers, output)
    # What has no counterpart was not compared: nothing says that it did not become worse.
    without = len(reports) - len(steps) if asked.since else 0
    return _status(reports, steps, None if waivers is None else findings, without=without)


def _called(report: ImageReport, pool: ImagePool) -> ImageReport:
    """What lay in an archive is called by that, and not by the file it was put into."""
    called = pool.called.get(report.image)
    if called is None:
        return report
    error = report.error and report.error.replace(report.image, called)
    return replace(report, image=called, error=error)


def _steps(
    asked: AskedOfImages, reports: Sequence[ImageReport], options: ReadingOptions
) -> list[SeriesStep]:
    """The pairs that are compared."""
    if asked.series:
        if len(reports) == 1:
            raise UsageError(
                "--series has one image, and nothing to compare it with",
                where=reports[0].image,
                do="give all builds of the series, from the oldest on",
            )
        return [_step(old, new) for old, new in pairwise(reports)]
    if asked.since is None:
        return []
    from staleline.kernel.reading.earlier import (
        earlier_reports,
        is_earlier_run,
        same_flavour,
        unused_of,
    )
    from staleline.kernel.reading.many import read_images

    if not is_earlier_run(asked.since):
        (old,) = read_images((asked.since,), options)
        # Without the old one there is nothing to compare with; of the new ones each may fail alone.
        old.required()
        return [_step(old, new) for new in reports]
    earlier = earlier_reports(asked.since)
    pairs = [(same_flavour(new, earlier), new) for new in reports]
    if any(new.error is None for _, new in pairs) and not any(before for before, _ in pairs):
        # Status 0 would say that nothing became worse.
        raise UsageError(
            "has no image of the series and flavour of any of these",
            where=asked.since,
            do="give an earlier run over builds of the same series, or an image in its place",
        )
    for before, new in pairs:
        if before is None and new.error is None:
            streams.complain(f"{new.image}: {asked.since} has none of its series and flavour")
    unused = unused_of(earlier, [old for old, _ in pairs])
    if unused:
        streams.complain(f"{asked.since}: nothing was compared with {unused} of it")
    return [_step(before, new) for before, new in pairs if before is not None]


def _step(old: ImageReport, new: ImageReport) -> SeriesStep:
    from staleline.report.images.series import SeriesStep
    from staleline.verdict.policies.builds import build_change

    if old.document is None or new.document is None:
        return SeriesStep(old.image, new.image, None)
    change = build_change(old.document, new.document, old_image=old.image, new_image=new.image)
    return SeriesStep(old.image, new.image, change)


def _write_policy(images: Sequence[str], options: ReadingOptions, output: Output) -> int:
    """One image's rule as a policy file; a rule of which a part is unknown makes none."""
    from staleline.kernel.reading.imagerule import policy_file
    from staleline.kernel.reading.many import read_images

    if len(images) != 1:
        raise click.UsageError("--as-policy is for one image")
    if output.format != "text":
        raise click.UsageError("--as-policy writes TOML, and has no --format")
    (report,) = read_images(images, options)
    output.write(policy_file(report.required(), report.image))
    return 0


def _complain(reports: Sequence[ImageReport], skipped: Sequence[str]) -> None:
    """What could not be read, and what was left out."""
    if skipped:
        streams.complain(
            f"{len(skipped)} package{'' if len(skipped) == 1 else 's'} without kernel skipped"
        )
    for report in reports:
        if report.error is not None:
            streams.complain(report.error)


def _status(
    reports: Sequence[ImageReport],
    steps: Sequence[SeriesStep],
    waived: Sequence[Findings] | None,
    *,
    without: int,
) -> int:
    from staleline.report.images.kernel_json import unknowns

    if any(report.error is not None for report in reports):
        return 1
    if steps and _is_worse(steps, waived):
        return 2
    compared = all(step.change is not None and step.change.unknown is None for step in steps)
    return 0 if compared and not without and not any(map(unknowns, reports)) else 3


def _is_worse(steps: Sequence[SeriesStep], waived: Sequence[Findings] | None) -> bool:
    """Did something become worse that is not waived?"""
    from staleline.report.formats.findings import Level
    from staleline.report.images.series import worse_handovers

    worse = [bool(worse_handovers(step.change)) for step in steps]
    if waived is None:
        return any(worse)
    # A note is what is waived, or was so before; a handover that is unknown now is a warning.
    return any(
        step and any(finding.level is not Level.NOTE for _, finding in findings.each())
        for step, findings in zip(worse, waived, strict=True)
    )

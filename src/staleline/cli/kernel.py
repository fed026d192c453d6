# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline kernel``: what images do on a machine, read by running their own code."""

from __future__ import annotations

from pathlib import Path as FilePath

import click

__all__ = ["command"]


@click.command("kernel")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--snapshot", "snapshot_file", metavar="FILE", required=True, help="The machine they run on."
)
@click.option("--msr", multiple=True, metavar="NUMBER=VALUE", help="An MSR the snapshot lacks.")
@click.option("--cmdline", metavar="TEXT", help="The kernel's command line.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(
    *,
    images: tuple[str, ...],
    snapshot_file: str,
    msr: tuple[str, ...],
    cmdline: str | None,
    as_json: bool,
) -> int:
    """Run each image's code for one machine: which sites execute WBINVD?

    Exit status: 0 if every site was read to its end, 1 error, 3 if one was not.
    """
    from staleline.evidence.detect import read_snapshot
    from staleline.evidence.given import with_given
    from staleline.facts import from_snapshot
    from staleline.kernel.image import load_image
    from staleline.report.console import print_json, text_console
    from staleline.report.kernel import kernel_document, print_kernels
    from staleline.verdict.kernels import ImageKernel
    from staleline.verdict.reading import read_on_machine

    snapshot = with_given(read_snapshot(FilePath(snapshot_file)), msr=msr, cmdline=cmdline)
    facts = from_snapshot(snapshot)
    readings = [
        read_on_machine(ImageKernel(load_image(image), snapshot), facts) for image in images
    ]
    if as_json:
        print_json(kernel_document(readings))
    else:
        print_kernels(text_console(), readings)
    return 3 if any(reading.unknown for reading in readings) else 0

# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline collect``: a snapshot of this host."""

from __future__ import annotations

from pathlib import Path

import click

from staleline.cli.console.once import Once
from staleline.outputfile import writing

__all__ = ["command"]


@click.command("collect", cls=Once)
@click.option("-o", "--output", metavar="FILE", default="-", help="Where to; default: stdout.")
@click.option("--redact", is_flag=True, help="Leave out host names.")
@click.option("--slim", is_flag=True, help="Some kB for a fleet: CPUs that are alike told once.")
@click.option(
    "--script",
    is_flag=True,
    help="Write the collector itself: one file to run on hosts without staleline.",
)
def command(*, output: str, redact: bool, slim: bool, script: bool) -> None:
    """Write a snapshot of this host: registers, command line, kernel state.

    Without root it collects what it can and notes what is missing and why. For another host:

        staleline collect --script | ssh HOST python3 -I - > HOST.json
    """
    from staleline.evidence.live import collector_source, snapshot_of_this_host

    text = collector_source()
    if not script:
        text = snapshot_of_this_host(redact=redact, small=slim)
    if output == "-":
        click.echo(text, nl=False)
        return
    with writing(output):
        Path(output).write_text(text, "utf-8")

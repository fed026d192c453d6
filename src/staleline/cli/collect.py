# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline collect``: a snapshot of this host."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("collect")
@click.option("-o", "--output", metavar="FILE", default="-", help="Where to; default: stdout.")
def command(*, output: str) -> None:
    """Write a snapshot of this host: registers, command line, kernel state.

    Without root it collects what it can and notes what is missing and why.
    """
    from staleline.evidence.live import collect
    from staleline.evidence.snapshot_json import snapshot_text

    with click.open_file(output, "w", encoding="utf-8") as file:
        file.write(snapshot_text(collect()))

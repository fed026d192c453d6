# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline serve``: a written report on this host's loopback address."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from staleline.cli.console.once import Once

__all__ = ["command"]


@click.command("serve", cls=Once)
@click.argument("directory", metavar="DIR")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Port of 127.0.0.1; default: a free one.",
)
def command(*, directory: str, port: int) -> None:
    """Show a report that `staleline report -o DIR` wrote, until Ctrl-C.

    Only this host can ask for it, and only for the report's own files. index.html needs no
    server: a browser opens it from disk as well.
    """
    from staleline.report.explorer.server import ReportServer, read_report

    with ReportServer(read_report(Path(directory)), port) as server:
        click.echo(f"{server.url}  (Ctrl-C ends)")
        with suppress(KeyboardInterrupt):
            server.serve_forever()

# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline schema``: what the JSON documents look like."""

from __future__ import annotations

import click

from staleline.cli.console.once import Once

__all__ = ["command"]


@click.command("schema", cls=Once)
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the schemas of the JSON documents, or print one (`audit`, or `staleline/audit/1`)."""
    from staleline.report.formats.published import published_schemas, schema_text

    if name is not None:
        click.echo(schema_text(name), nl=False)
        return
    width = max(map(len, published_schemas()))
    for identifier, meaning in published_schemas().items():
        click.echo(f"{identifier:{width}}  {meaning}")

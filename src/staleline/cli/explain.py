# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline explain``: what a finding, an unknown or a check means, by its id."""

from __future__ import annotations

import click

from staleline.cli.console.once import Once

__all__ = ["command"]


def _completed(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    from staleline.report.words.explanations import explanations

    return [name for name in explanations() if name.startswith(begun)]


@click.command("explain", cls=Once)
@click.argument("ids", nargs=-1, metavar="[ID...]", shell_complete=_completed)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(*, ids: tuple[str, ...], as_json: bool) -> None:
    """Explain what reports name by an id: what it means, what it rests on, what to do.

    Without an id: list them all.
    """
    from staleline.report.words.console import print_json, text_console
    from staleline.report.words.explanations import explanation, explanations
    from staleline.report.words.explanations_text import (
        explanations_document,
        print_list,
        print_pages,
    )

    pages = [explanation(name) for name in ids] or list(explanations().values())
    if as_json:
        print_json(explanations_document(pages))
    elif ids:
        print_pages(text_console(), pages)
    else:
        print_list(text_console(), pages)

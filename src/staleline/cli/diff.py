# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline diff``: what changes from one policy to another."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("diff")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(*, old: str, new: str, as_json: bool) -> int:
    """Compare two policies: where their rules differ, and which handovers change.

    Exit status: 0 if nothing that was safe becomes unsafe, 1 error, 2 otherwise.
    """
    from staleline.policy.catalogue import find
    from staleline.report.console import print_json, text_console
    from staleline.report.difference import difference_document, print_difference
    from staleline.verdict.difference import compare

    difference = compare(find(old), find(new))
    if as_json:
        print_json(difference_document(difference))
    else:
        print_difference(text_console(), difference)
    return 2 if any(changed.worse for changed in difference.handovers) else 0

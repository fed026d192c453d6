# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline diff``: what changes from one policy or kernel image to another."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("diff")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--no-cache", is_flag=True, help="Read images anew, and keep nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(*, old: str, new: str, no_cache: bool, as_json: bool) -> int:
    """Compare two rules: where they differ, and which handovers change at what cost.

    OLD and NEW are policies of the catalogue, policy files (.toml) or kernel images.

    Exit status: 0 if nothing that was safe becomes unsafe, 1 error, 2 otherwise.
    """
    from staleline.cli.images import ReadingOptions, ruled_kernels
    from staleline.report.console import print_json, text_console
    from staleline.report.difference import difference_document, print_difference
    from staleline.verdict.difference import compare_kernels

    difference = compare_kernels(*ruled_kernels((old, new), ReadingOptions(use_cache=not no_cache)))
    if as_json:
        print_json(difference_document(difference))
    else:
        print_difference(text_console(), difference)
    return 2 if any(changed.worse for changed in difference.handovers) else 0

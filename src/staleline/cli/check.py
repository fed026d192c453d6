# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline check``: model-check policies on every platform, transition and path."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("check")
@click.argument("policies", nargs=-1, required=True, metavar="POLICY...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(*, policies: tuple[str, ...], as_json: bool) -> int:
    """Check policies (catalogue names or .toml files) on every platform class.

    Exit status: 0 safe everywhere, 1 error, 2 at risk somewhere, 3 unknown somewhere.
    """
    from staleline.policy.catalogue import find
    from staleline.report.check import check_document, print_check
    from staleline.report.console import print_json, text_console
    from staleline.verdict.platforms import check_policy

    found = [(policy, tuple(check_policy(policy))) for policy in map(find, policies)]
    for policy, rows in found:
        if as_json:
            print_json(check_document(policy, rows))
        else:
            print_check(text_console(), policy, rows)
    verdicts = {row.judgement.verdict for _, rows in found for row in rows}
    return 2 if "at-risk" in verdicts else 3 if "unknown" in verdicts else 0

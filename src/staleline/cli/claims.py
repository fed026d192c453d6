# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline claims``: the claims of the mail threads, each with what became of it."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command("claims")
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--full", is_flag=True, help="Show the interleaving behind every exception.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(*, ids: tuple[str, ...], full: bool, as_json: bool) -> None:
    """Decide the claims of the threads: proved, refuted, or true under a condition."""
    from staleline.errors import UsageError
    from staleline.report.claims import claims_document, print_claims
    from staleline.report.console import print_json, text_console
    from staleline.report.progress import tracked
    from staleline.verdict.claims import claims, judge_claim

    unknown = [name for name in ids if name not in claims()]
    if unknown:
        raise UsageError(f"no claim {unknown[0]!r}", do=f"give one of {', '.join(claims())}")
    wanted = [claims()[name] for name in ids or claims()]
    results = [judge_claim(claim) for claim in tracked(wanted, "claims", len(wanted))]
    if as_json:
        print_json(claims_document(results))
    else:
        print_claims(text_console(), results, full=full)

# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline claims``: the claims of the mail threads, each with what became of it."""

from __future__ import annotations

import click

from staleline.cli.console.once import Once
from staleline.cli.console.output import FINDING_FORMATS, Output, output_options

__all__ = ["command"]

_REFUSED = dict.fromkeys(FINDING_FORMATS, "a refuted claim is an answer, and no kernel's fault")


@click.command("claims", cls=Once)
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--full", is_flag=True, help="Show the interleaving behind every exception.")
@output_options(_REFUSED)
def command(*, ids: tuple[str, ...], full: bool, output: Output) -> None:
    """Decide the claims of the threads: proved, refuted, or true under a condition."""
    from staleline.errors import UsageError
    from staleline.report.policies.claims import claims_document, print_claims
    from staleline.report.words.progress import tracked
    from staleline.verdict.policies.claims import claims, judge_claim

    unknown = [name for name in ids if name not in claims()]
    if unknown:
        raise UsageError(f"no claim {unknown[0]!r}", do=f"give one of {', '.join(claims())}")
    wanted = [claims()[name] for name in ids or claims()]
    results = [judge_claim(claim) for claim in tracked(wanted, "claims", len(wanted))]
    output.show(
        lambda: claims_document(results),
        lambda console: print_claims(console, results, full=full),
    )

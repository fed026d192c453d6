# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline check``: model-check policies on every platform, transition and path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staleline.verdict.exact import ExactCheck
    from staleline.verdict.platforms import PlatformHandover

__all__ = ["command"]


@click.command("check")
@click.argument("policies", nargs=-1, required=True, metavar="POLICY...")
@click.option(
    "--cpus",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Check for exactly N CPUs as well, by decision diagrams.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(*, policies: tuple[str, ...], cpus: int | None, as_json: bool) -> int:
    """Check policies (catalogue names or .toml files) on every platform class.

    Exit status: 0 safe everywhere, 1 error, 2 at risk somewhere, 3 unknown somewhere.
    """
    from staleline.policy.catalogue import find
    from staleline.report.check import check_document, print_check
    from staleline.report.console import print_json, text_console
    from staleline.report.progress import tracked
    from staleline.verdict.platforms import check_policy, count_handovers
    from staleline.vocabulary import Verdict

    verdicts = set()
    for policy in [find(name) for name in policies]:
        total = count_handovers(policy)
        rows = tuple(tracked(check_policy(policy), policy.name, total))
        exact = None if cpus is None else _exactly(rows, cpus)
        if as_json:
            print_json(check_document(policy, rows, exact))
        else:
            print_check(text_console(), policy, rows, exact)
        verdicts |= {row.judgement.verdict for row in rows}
        if exact is not None and exact.disagreeing:
            verdicts.add(Verdict.UNKNOWN)
    return 2 if Verdict.AT_RISK in verdicts else 3 if Verdict.UNKNOWN in verdicts else 0


def _exactly(rows: Sequence[PlatformHandover], cpus: int) -> ExactCheck:
    from staleline.report.progress import tracked
    from staleline.verdict.exact import agreement, distinct_models, explored_models

    models = distinct_models(rows)
    explored = tuple(tracked(explored_models(models, cpus), f"{cpus} CPUs", len(models)))
    return agreement(rows, explored, cpus)

# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline check``: model-check policies on every platform, transition and path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from staleline.cli.console.once import Once
from staleline.cli.console.output import Output, output_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staleline.policy.policy import Policy
    from staleline.verdict.policies.exact import ExactCheck
    from staleline.verdict.policies.platforms import PlatformHandover

__all__ = ["command"]


@click.command("check", cls=Once)
@click.argument("policies", nargs=-1, required=True, metavar="POLICY...")
@click.option(
    "--cpus",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Check for exactly N CPUs as well, by decision diagrams.",
)
@output_options()
def command(*, policies: tuple[str, ...], cpus: int | None, output: Output) -> int:
    """Check policies (catalogue names or .toml files) on every platform class.

    Exit status: 0 safe everywhere, 1 error, 2 at risk somewhere, 3 unknown somewhere.
    """
    from staleline.policy.catalogue import find

    checked = [_check(find(name), cpus) for name in policies]
    _write(output, checked)
    return _status(checked)


@dataclass(frozen=True, slots=True)
class _Checked:
    """One policy, on every platform class."""

    policy: Policy
    rows: tuple[PlatformHandover, ...]
    exact: ExactCheck | None


def _check(policy: Policy, cpus: int | None) -> _Checked:
    from staleline.report.words.progress import tracked
    from staleline.verdict.policies.platforms import check_policy, count_handovers

    rows = tuple(tracked(check_policy(policy), policy.name, count_handovers(policy)))
    return _Checked(policy, rows, None if cpus is None else _exactly(rows, cpus))


def _exactly(rows: Sequence[PlatformHandover], cpus: int) -> ExactCheck:
    from staleline.report.words.progress import tracked
    from staleline.verdict.policies.exact import agreement, distinct_models, explored_models

    models = distinct_models(rows)
    explored = tuple(tracked(explored_models(models, cpus), f"{cpus} CPUs", len(models)))
    return agreement(rows, explored, cpus)


def _write(output: Output, checked: Sequence[_Checked]) -> None:
    from staleline.report.policies.check import check_document, print_check

    if output.of_findings:
        from staleline.report.formats.findings import check_findings

        output.write_findings([check_findings(one.policy, one.rows) for one in checked])
    elif output.format == "json":
        output.write_json(*(check_document(one.policy, one.rows, one.exact) for one in checked))
    else:
        with output.console() as console:
            for one in checked:
                print_check(console, one.policy, one.rows, one.exact)


def _status(checked: Sequence[_Checked]) -> int:
    from staleline.vocabulary import Verdict

    verdicts = {row.judgement.verdict for one in checked for row in one.rows}
    if Verdict.AT_RISK in verdicts:
        return 2
    disagreeing = any(one.exact is not None and one.exact.disagreeing for one in checked)
    return 3 if disagreeing or Verdict.UNKNOWN in verdicts else 0

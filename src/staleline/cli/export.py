# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline export``: a model for another checker, as a second opinion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import click

from staleline.cli.console.once import Once
from staleline.outputfile import writing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staleline.check.export.case import ExportedCase

__all__ = ["PRINTERS", "command"]


def _murphi(case: ExportedCase, *, symmetry: bool) -> str:
    from staleline.check.export.murphi import murphi

    return murphi(case.model(), case.scenario.secondaries, symmetry=symmetry)


def _promela(case: ExportedCase, **_: bool) -> str:
    from staleline.check.export.promela import promela

    return promela(case.model(), case.scenario.secondaries)


def _smt2(case: ExportedCase, **_: bool) -> str:
    """The proof for every number of secondaries, one query per obligation."""
    from staleline.check.proof.certificate import smtlib_proof

    return smtlib_proof(case.model())


#: What each format is printed by.
PRINTERS: Mapping[str, Callable[..., str]] = {
    "murphi": _murphi,
    "promela": _promela,
    "smt2": _smt2,
}


@click.command("export", cls=Once)
@click.argument("case", metavar="CASE")
@click.option("--to", "target", type=click.Choice(list(PRINTERS)), required=True)
@click.option(
    "--line",
    "roles",
    multiple=True,
    metavar="ROLE",
    help="Line role, e.g. image; several give one model of all. Default: the first there is.",
)
@click.option("--secondaries", type=click.IntRange(0, 64), metavar="N", help="Default: 2.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the scenario, e.g. flush_jumping=never, foreign=tdx, incoherent=no.",
)
@click.option(
    "--symmetry/--no-symmetry",
    default=True,
    show_default=True,
    help="Murphi: secondaries as a scalarset, or as a plain subrange.",
)
@click.option("-o", "--output", metavar="FILE", help="Default: standard output.")
def command(  # noqa: PLR0913 - one parameter per option
    *,
    case: str,
    target: str,
    roles: tuple[str, ...],
    secondaries: int | None,
    changes: tuple[str, ...],
    symmetry: bool,
    output: str | None,
) -> None:
    """Print the model of one case for rumur (Murphi) or spin (Promela), or its proof (smt2).

    CASE is PATH:TRANSITION, e.g. kexec:on-off or crash:off-on, on incoherent hardware where
    every site flushes unless --set says otherwise; or a counterexample's .itf.json file.
    """
    if secondaries is not None:
        changes = (*changes, f"secondaries={secondaries}")
    found = _case(case, changes, roles)
    _write(PRINTERS[target](found, symmetry=symmetry), output)


def _case(case: str, changes: Sequence[str], roles: Sequence[str]) -> ExportedCase:
    from staleline.check.export.case import case_named, case_of_trace
    from staleline.check.meaning.scenario_json import parameter
    from staleline.check.runs.replay import read_trace

    values = {}
    for change in changes:
        name, _, value = change.partition("=")
        values[name] = parameter(name, value, "--set")
    if case.endswith(".json"):
        return case_of_trace(read_trace(case), case, values, roles)
    return case_named(case, values, roles)


def _write(text: str, output: str | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    with writing(output):
        FilePath(output).write_text(text, "utf-8")

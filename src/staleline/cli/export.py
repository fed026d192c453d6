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
    from staleline.verdict.handover.readkernel import NamedRule

__all__ = ["PRINTERS", "command"]

#: How a line of comment begins in each format.
_COMMENT = {"murphi": "-- ", "promela": "// ", "smt2": "; "}
_WIDTH = 96


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
@click.option(
    "--kernel",
    "rule",
    metavar="RULE",
    help="What a policy, policy file or image does there on --platform, e.g. its refuted case.",
)
@click.option(
    "--platform", metavar="CLASS", help="With --kernel: the platform class, e.g. intel-tdx."
)
@click.option("--sev-guests", is_flag=True, help="With --kernel: SEV guests have run.")
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
    rule: str | None,
    platform: str | None,
    sev_guests: bool,
    secondaries: int | None,
    changes: tuple[str, ...],
    symmetry: bool,
    output: str | None,
) -> None:
    """Print the model of one case for rumur (Murphi) or spin (Promela), or its proof (smt2).

    CASE is PATH:TRANSITION, e.g. kexec:on-off or crash:off-on, on incoherent hardware where
    every site flushes unless --set says otherwise; or a counterexample's .itf.json file. With
    --kernel and --platform it is that kernel's handover there. The header says what the case
    was found to be here: proved, or refuted.
    """
    if secondaries is not None:
        changes = (*changes, f"secondaries={secondaries}")
    if rule is None and (platform is not None or sev_guests):
        raise click.UsageError("--platform and --sev-guests are for --kernel")
    if rule is None:
        told, scenario = case, _case(case, changes, roles)
    else:
        told, scenario = _case_of_kernel(case, changes, roles, (rule, platform, sev_guests))
    text = PRINTERS[target](scenario, symmetry=symmetry)
    # What is changed may be what the case is called by.
    told = ", ".join((told, *changes))
    _write(_header(told, scenario, _COMMENT[target]) + text, output)


def _header(told: str, case: ExportedCase, comment: str) -> str:
    """Which case it is, and what became of it here."""
    from importlib.metadata import version
    from textwrap import wrap

    from staleline.printable import printable

    lines = [f"{told}, by staleline {version('staleline')}", _lines_of(case), _outcome(case)]
    wrapped = (part for line in lines for part in wrap(printable(line), _WIDTH))
    return "".join(f"{comment}{line}\n" for line in wrapped) + "\n"


def _lines_of(case: ExportedCase) -> str:
    """Which lines the model has: another checker's answer is about these, and about no others."""
    of, others = case.lines
    without = f", without {', '.join(others)} (--line)" if others else ""
    return f"Lines: {', '.join(of)}{without}."


def _outcome(case: ExportedCase) -> str:
    """What the checker says of it."""
    from staleline.check.answer import AnswerKind
    from staleline.errors import ModelError

    try:
        answer = case.answer()
    except ModelError as error:
        return f"NOT CHECKED here: {error}"
    broken = answer.counterexample
    if broken is not None:
        return (
            f"REFUTED here: {broken.property} is broken ({broken.title.rstrip('.')}), in "
            f"{len(broken.steps)} steps with {answer.cpus} CPUs: expect a violation. Last step: "
            f"{broken.steps[-1].sentence}"
        )
    if answer.kind is AnswerKind.PROVED:
        return "PROVED here for any number of CPUs: expect no violation."
    return f"No violation found here with up to {answer.cpus} CPUs."


def _case_of_kernel(
    case: str,
    changes: Sequence[str],
    roles: Sequence[str],
    asked: tuple[str, str | None, bool],
) -> tuple[str, ExportedCase]:
    """The handover of a rule on a platform class, and how it is called."""
    from staleline.check.export.case import ExportedCase, path_and_transition
    from staleline.check.meaning.scenario_json import scenario_document, scenario_from
    from staleline.errors import UsageError
    from staleline.kernel.reading.imagereport import ReadingOptions
    from staleline.verdict.handover.namedrules import named_rules
    from staleline.verdict.policies.platforms import Selection, handovers_of, platforms

    rule, platform, sev_guests = asked
    if platform is None or platform not in platforms():
        do = f"give --platform with one of {', '.join(platforms())}"
        raise UsageError(f"no platform class {platform!a}" if platform else "no platform", do=do)
    path, old, following = path_and_transition(case)
    (named,) = named_rules((rule,), ReadingOptions())
    selection = Selection(
        platforms=frozenset({platform}), path=path, next=following, sev_guests=sev_guests
    )
    # A selection has no word for the old kernel's use.
    scenarios = dict.fromkeys(
        scenario
        for _, handover in handovers_of(named.required(), selection)
        if handover.old_encrypts is old
        for scenario in handover.scenarios()
    )
    if not scenarios:
        raise UsageError(
            f"{case} does not happen on {platform} with {named.name}",
            do="see `staleline check` for the handovers that do",
        )
    scenario = next(iter(scenarios))
    values = dict(_parameters(changes))
    if values:
        scenario = scenario_from({**scenario_document(scenario), **values}, "case")
    guests = ", SEV guests have run" if sev_guests else ""
    told = f"{_called(named)}: {case} on {platform}{guests}"
    if len(scenarios) > 1:
        told += f"; the first of {len(scenarios)} scenarios that it may be"
    return told, ExportedCase(scenario, tuple(roles))


def _called(rule: NamedRule) -> str:
    if rule.document is None:
        return rule.name
    return f"{rule.name}, build ID {rule.document['build_id']}"


def _parameters(changes: Sequence[str]) -> Mapping[str, object]:
    from staleline.check.meaning.scenario_json import parameter
    from staleline.errors import UsageError

    values: dict[str, object] = {}
    for change in changes:
        name, _, text = change.partition("=")
        value = parameter(name, text, "--set")
        # One of two would be printed, and the other go unheard.
        if values.setdefault(name, value) != value:
            raise UsageError(f"{name} is given two values", where="--set", do="give one")
    return values


def _case(case: str, changes: Sequence[str], roles: Sequence[str]) -> ExportedCase:
    from staleline.check.export.case import case_named, case_of_trace
    from staleline.check.runs.replay import read_trace

    values = _parameters(changes)
    if case.endswith(".json"):
        return case_of_trace(read_trace(case), case, values, roles)
    return case_named(case, values, roles)


def _write(text: str, output: str | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    with writing(output):
        FilePath(output).write_text(text, "utf-8")

# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline report``: verdicts and counterexamples as one HTML page to look at and to send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import click

from staleline.cli.console.once import Once
from staleline.cli.console.selecting import Wanted, selection_options
from staleline.cli.machine import GivenMachine, machine_options, observed
from staleline.printable import printable

if TYPE_CHECKING:
    from staleline.evidence.given import Given
    from staleline.evidence.snapshot import Snapshot
    from staleline.report.explorer.cases import ExploredKernels
    from staleline.verdict.audit.audit import Audit
    from staleline.verdict.handover.readkernel import NamedRule
    from staleline.verdict.policies.platforms import PlatformHandover

__all__ = ["command"]


@click.command("report", cls=Once)
@click.option(
    "-o",
    "--output",
    "directory",
    required=True,
    metavar="DIR",
    help="Directory for index.html and the counterexamples as ITF.",
)
@machine_options(
    several=True,
    snapshot="A snapshot or CPUID dump, any number of times; default: this host.",
    msr="An MSR that the snapshots lack.",
    cmdline="The old kernel's command line.",
    state="A state that the snapshots lack.",
)
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    metavar="WHAT",
    help="An old kernel, any number of times: an image, a release or a policy; "
    "default: the one the snapshot names.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="RULE",
    help="Instead of machines: a policy, policy file or image on platform classes, any number "
    "of times; --platform, --role and --accept are for these.",
)
@selection_options()
@click.option(
    "--next",
    "following",
    type=click.Choice(["on", "off", "same", "any"]),
    default="any",
    show_default=True,
    help="Memory encryption of the next kernel.",
)
def command(  # noqa: PLR0913 - one parameter per option
    *,
    directory: str,
    machine: GivenMachine,
    kernels: tuple[str, ...],
    policies: tuple[str, ...],
    wanted: Wanted,
    following: str,
) -> None:
    """Write a page with every verdict, its evidence, and its counterexample to step through.

    One self-contained HTML file: it loads nothing, so it can be mailed. With several kernels or
    policies, each handover shows them side by side.

    Exit status: 0 written, 1 error; verdicts are in the page (audit and check exit with them).
    """
    from staleline.report.explorer.files import write_report

    given = machine.given
    asked = _Asked(following, wanted.path)
    _refuse_mixture(machine.files or kernels or given.anything, policies, wanted)
    if policies:
        explored = _of_rules(policies, wanted, asked)
    else:
        explored = _of_machines(machine.files, kernels, given, asked)
    # A rule's own entry says its build ID as well.
    explored = replace(
        explored,
        files={**_digests((*machine.files, *kernels)), **explored.files},
        under=(*_under(wanted, following), *explored.under),
    )
    page = write_report(explored, FilePath(directory))
    size = f"{page.stat().st_size / 1024:.0f} KiB"
    click.echo(f"{printable(str(page))}: {len(explored.results)} handovers, {size}")


def _under(wanted: Wanted, following: str) -> Iterator[str]:
    """What was left out of the page, or is taken for granted on it."""
    from staleline.report.policies.selected import of_roles_alone

    if roles := of_roles_alone(wanted.selection):
        yield f"Every verdict is {roles}."
    for name in wanted.accepted:
        yield f"Accepted, not shown: {name} (docs/model.md)."
    if following != "any":
        how = "as the old one has it" if following == "same" else following
        yield f"Only next kernels with memory encryption {how} are judged."


def _digests(files: Iterable[str]) -> dict[str, str]:
    """Of snapshots and images that are files."""
    from staleline.kernel.file.source import file_digest

    digests = {}
    for file in files:
        if FilePath(file).is_file():
            digests[file] = f"SHA-256 {file_digest(file)}"
    return digests


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which handovers are wanted."""

    following: str
    path_name: str

    def next_is_wanted(self, row: PlatformHandover) -> bool:
        """Is the next kernel's use of memory encryption one that is asked about?"""
        wanted = {"on": True, "off": False, "same": row.old, "any": row.next}
        return row.next is wanted[self.following]


def _refuse_mixture(of_machines: object, policies: object, wanted: Wanted) -> None:
    from staleline.errors import UsageError

    if policies and of_machines:
        raise UsageError(
            "--policy is for platform classes, the other options are for machines",
            do="to judge a policy on a machine, give it to --kernel",
        )
    for option, given in (
        ("--platform", wanted.platforms),
        ("--role", wanted.roles),
        ("--accept", wanted.accepted),
    ):
        if given and not policies:
            raise UsageError(f"{option} without a policy", do="give --policy RULE")


def _of_rules(names: tuple[str, ...], wanted: Wanted, asked: _Asked) -> ExploredKernels:
    from staleline.errors import UsageError
    from staleline.report.explorer.cases import of_rules
    from staleline.report.words.progress import tracked
    from staleline.verdict.policies.platforms import check_kernel, count_handovers

    selection = wanted.selection
    checks = []
    for name, rule in _rules(names).items():
        total = count_handovers(rule.kernel, selection)
        rows = tracked(check_kernel(rule.kernel, selection), name, total)
        checks.append((name, rule, tuple(row for row in rows if asked.next_is_wanted(row))))
    if not all(rows for _, _, rows in checks):
        raise UsageError("no handover of these platforms is left", do="ask for --next any")
    return of_rules(checks)


def _rules(names: tuple[str, ...]) -> dict[str, NamedRule]:
    """Each rule once, by its name; two builds of one release by their files too."""
    from staleline.cli.console.tracking import with_progress
    from staleline.errors import UsageError
    from staleline.kernel.reading.imagereport import ReadingOptions
    from staleline.verdict.handover.namedrules import named_rules

    rules: dict[str, NamedRule] = {}
    for rule in named_rules(tuple(dict.fromkeys(names)), ReadingOptions(tracked=with_progress)):
        # Builds of one release are told apart by their files; a policy has its name alone.
        if rule.name in rules and rule.document is None and rule.policy != rules[rule.name].policy:
            raise UsageError(f"two policies are called {rule.name!r}", do="rename one of them")
        is_other_build = rule.name in rules and rule.document is not None
        rules[f"{rule.name} ({rule.given})" if is_other_build else rule.name] = rule
    return rules


def _of_machines(
    snapshots: tuple[str, ...], kernels: tuple[str, ...], given: Given, asked: _Asked
) -> ExploredKernels:
    from staleline.report.explorer.cases import of_audits
    from staleline.report.words.progress import tracked

    machines = _named_snapshots(snapshots)
    wanted = dict.fromkeys(kernels) or (None,)
    audits = (
        (name, kernel, _audit(snapshot, kernel, given, asked))
        for name, snapshot in machines.items()
        for kernel in wanted
    )
    told = tracked(audits, "audits", len(machines) * len(wanted))
    return of_audits(_with_kernel_names(told))


def _with_kernel_names(
    audits: Iterable[tuple[str, str | None, Audit]],
) -> Iterator[tuple[str, str, Audit]]:
    """Each kernel by its release or policy; two builds of one release by their files too."""
    owners: dict[str, str | None] = {}
    for machine, wanted, audit in audits:
        owner = owners.setdefault(audit.kernel, wanted)
        yield machine, audit.kernel if owner == wanted else f"{audit.kernel} ({wanted})", audit


def _named_snapshots(files: tuple[str, ...]) -> dict[str, Snapshot]:
    """Each snapshot by its host's name, or its file's; by the path where that is taken."""
    if not files:
        return {"this host": observed(None)}
    snapshots: dict[str, Snapshot] = {}
    for file in dict.fromkeys(files):
        snapshot = observed(file)
        name = snapshot.host or FilePath(file).name
        snapshots[file if name in snapshots else name] = snapshot
    return snapshots


def _audit(snapshot: Snapshot, kernel: str | None, given: Given, asked: _Asked) -> Audit:
    from staleline.kernel.reading.decided import image_opener
    from staleline.verdict.audit.agreement import audit_of
    from staleline.verdict.audit.next_kernel import Next
    from staleline.verdict.audit.subject import subject_of
    from staleline.vocabulary import Path

    return audit_of(
        subject_of(snapshot, kernel, given, open_image=image_opener()),
        following=Next(asked.following),
        paths=tuple(Path) if asked.path_name == "all" else (Path(asked.path_name),),
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline audit``: machines, kernels on them, and the transitions asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import click

from staleline.cli.console import streams
from staleline.cli.console.asked import asked_command_line
from staleline.cli.console.once import Once
from staleline.cli.console.output import Output, output_options
from staleline.cli.machine import GivenMachine, machine_options, observed
from staleline.errors import StalelineError
from staleline.evidence.contradiction import ContradictionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from staleline.evidence.given import Given
    from staleline.evidence.snapshot import Snapshot
    from staleline.report.machines.audits import AuditOutcome
    from staleline.verdict.audit.audit import Audit
    from staleline.verdict.audit.cost import Cost
    from staleline.vocabulary import Path

__all__ = ["command"]

#: At risk is worse than unknown.
_WORST_FIRST = (2, 3, 0)


@click.command("audit", cls=Once)
@machine_options(
    several=True,
    snapshot="A snapshot or CPUID dump, any number of times; default: this host.",
    msr="An MSR the snapshot lacks, e.g. 0xc0010010=0x800000.",
    cmdline="The old kernel's command line, e.g. mem_encrypt=on.",
)
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    metavar="WHAT",
    help="An old kernel, any number of times: an image, a release or a policy; default: the one "
    "the snapshot names.",
)
@click.option(
    "--next",
    "following",
    metavar="WHAT",
    default="any",
    show_default=True,
    help="The next kernel: on, off, same or any by its memory encryption, or its image.",
)
@click.option("--append", metavar="CMDLINE", help="The next image's command line; default: any.")
@click.option(
    "--reuse-cmdline", is_flag=True, help="The next image's: the running one, and --append."
)
@click.option(
    "--path",
    "path_name",
    type=click.Choice(["kexec", "crash", "all"]),
    default="all",
    show_default=True,
)
@click.option(
    "--bandwidth",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB/S",
    help="Memory bandwidth of a socket, for the cost; default: by the CPU's model.",
)
@click.option(
    "--measured",
    metavar="FILE",
    help="What was measured here: a result of the litmus kit, or docs/examples/wbinvd.bt's.",
)
@click.option("--traces", metavar="DIR", help="Write counterexamples there as ITF (.itf.json).")
@click.option(
    "--fail-on",
    type=click.Choice(["risk", "unknown", "unneeded"]),
    default="unknown",
    show_default=True,
    help="The least finding that makes the exit status non-zero.",
)
@click.option("-v", "--verbose", is_flag=True, help="Of several audits, print each as a whole too.")
@click.option("--no-cache", is_flag=True, help="Run the image's code anew, and keep nothing.")
@output_options()
def command(  # noqa: PLR0913 - one parameter per option
    *,
    machine: GivenMachine,
    kernels: tuple[str, ...],
    following: str,
    append: str | None,
    reuse_cmdline: bool,
    path_name: str,
    bandwidth: float | None,
    measured: str | None,
    traces: str | None,
    fail_on: str,
    verbose: bool,
    no_cache: bool,
    output: Output,
) -> int:
    """Could this kexec leave incoherent cache lines behind, and are they written back first?

    Of several snapshots or kernels, each pair is audited and gets a line, the worst first; one
    that cannot be read does not keep the others from it.

    Exit status: 0 safe, 1 error, 2 at risk, 3 unknown; of several 1 if there was an error, else
    the worst, where at risk is worse than unknown.
    """
    from staleline.verdict.audit.wanted_next import require_next
    from staleline.vocabulary import Path

    request = _Request(
        given=machine.given,
        following=following,
        append=append,
        reuse_cmdline=reuse_cmdline,
        path_name=path_name,
        paths=tuple(Path) if path_name == "all" else (Path(path_name),),
        use_cache=not no_cache,
        bandwidth=bandwidth,
        measured=measured,
        traces=traces,
    )
    # Before anything is read, so that a misspelt word is told at once.
    require_next(following)
    files = tuple(dict.fromkeys(machine.files)) or (None,)
    wanted = tuple(dict.fromkeys(kernels)) or (None,)
    if len(files) * len(wanted) > 1:
        return _several(output, list(_outcomes(files, wanted, request)), fail_on, verbose=verbose)
    (outcome,) = _outcomes(files, wanted, request)
    # Of an error as well: a contradiction has a document and findings.
    _write(output, outcome)
    if outcome.error is not None:
        raise outcome.error
    return _status(outcome, fail_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What is asked of each machine with each kernel."""

    given: Given
    following: str
    append: str | None
    reuse_cmdline: bool
    path_name: str
    paths: tuple[Path, ...]
    use_cache: bool
    bandwidth: float | None
    measured: str | None
    traces: str | None

    @property
    def asked(self) -> dict[str, str]:
        """What is left out of an audit of everything, by name."""
        asked = {"next_kernel": (self.following, "any"), "path": (self.path_name, "all")}
        narrowed = {name: value for name, (value, all_) in asked.items() if value != all_}
        return narrowed | asked_command_line(self.append, reuse=self.reuse_cmdline)

    def audit(self, snapshot: Snapshot, kernel: str | None) -> tuple[Audit, Cost, list[str]]:
        """What was found, what it costs, and the images that were read."""
        from staleline.kernel.reading.decided import image_opener
        from staleline.verdict.audit.agreement import audit_of
        from staleline.verdict.audit.old_kernel import image_files
        from staleline.verdict.audit.subject import subject_of
        from staleline.verdict.audit.wanted_next import next_kernel

        subject = subject_of(
            snapshot, kernel, self.given, open_image=image_opener(use_cache=self.use_cache)
        )
        following = next_kernel(
            self.following,
            subject.snapshot,
            append=self.append,
            reuse=self.reuse_cmdline,
            crash=self.path_name == "crash",
        )
        audited = audit_of(subject, following=following, paths=self.paths)
        price = _cost(audited, subject.snapshot, self.bandwidth, self.measured)
        return audited, price, image_files(subject.kernels)


def _outcomes(
    files: Sequence[str | None], kernels: Sequence[str | None], request: _Request
) -> Iterator[AuditOutcome]:
    """Each machine with each kernel; of a machine that cannot be read, one."""
    directory = None if request.traces is None else FilePath(request.traces)
    several = len(files) * len(kernels) > 1
    number = 0
    for file in files:
        try:
            snapshot = observed(file)
        except StalelineError as error:
            host = error.host if isinstance(error, ContradictionError) else None
            # Of several kernels the error is none's.
            yield _failed(request, file, kernels[0] if len(kernels) == 1 else None, error, host)
            # Folders of traces are numbered by pairs, whatever of them could be read.
            number += len(kernels)
            continue
        for kernel in kernels:
            number += 1
            traces = directory / str(number) if directory and several else directory
            yield _outcome(snapshot, file, kernel, request, traces)


def _outcome(
    snapshot: Snapshot,
    file: str | None,
    kernel: str | None,
    request: _Request,
    traces: FilePath | None,
) -> AuditOutcome:
    from staleline.report.machines.audits import AuditOutcome

    try:
        audit, price, images = request.audit(snapshot, kernel)
        written = {} if traces is None else _write_traces(audit, traces)
    except StalelineError as error:
        return _failed(request, file, kernel, error, snapshot.host)
    return AuditOutcome(
        _machine(file),
        kernel,
        request.paths,
        request.asked,
        audit=audit,
        cost=price,
        traces=written,
        files=(*_files(file), *images),
        host=snapshot.host,
    )


def _failed(
    request: _Request,
    file: str | None,
    kernel: str | None,
    error: StalelineError,
    host: str | None = None,
) -> AuditOutcome:
    from staleline.report.machines.audits import AuditOutcome

    return AuditOutcome(
        _machine(file),
        kernel,
        request.paths,
        request.asked,
        files=_files(file),
        error=error,
        host=host,
    )


def _machine(file: str | None) -> str:
    return "this host" if file is None else file


def _files(file: str | None) -> tuple[str, ...]:
    return () if file is None else (file,)


def _write_traces(audit: Audit, directory: FilePath) -> dict[str, str]:
    """Write every counterexample; returns file name -> path."""
    from staleline.cli.console.traces import write_traces
    from staleline.report.machines.audit_json import trace_name

    answered = ((trace_name(row), row.answer) for row in audit.handovers if row.answer is not None)
    named = ((name, answer.counterexample) for name, answer in answered)
    return write_traces(directory, ((name, run) for name, run in named if run is not None))


def _cost(
    audit: Audit, snapshot: Snapshot, bandwidth: float | None, measured_file: str | None
) -> Cost:
    """What the flushes cost; `bandwidth` in GB/s."""
    from staleline.facts.capacity import cache_capacity
    from staleline.verdict.audit.cost import bandwidth_of, cost
    from staleline.verdict.audit.measured import read_measured, require_agreement

    given = None if bandwidth is None else bandwidth * 1e9
    measured = None if measured_file is None else read_measured(FilePath(measured_file))
    require_agreement(measured, audit.facts, measured_file or "")
    return cost(audit, cache_capacity(snapshot), bandwidth_of(audit.facts, given), measured)


def _write(output: Output, outcome: AuditOutcome) -> None:
    """The one audit; of an error, nothing but a contradiction's document or findings."""
    from staleline.report.machines.audits import outcome_findings

    document = outcome.document
    if document is None:
        return
    if output.of_findings:
        output.write_findings(outcome_findings([outcome]))
    elif output.format == "json":
        output.write_json(document)
    elif outcome.audit is not None:
        with output.console() as console:
            _print(console, outcome)


def _print(console: Console, outcome: AuditOutcome) -> None:
    from staleline.report.litmus.litmus_text import print_aliases
    from staleline.report.machines.audit_text import print_audit
    from staleline.report.machines.cost import print_cost

    if outcome.audit is not None and outcome.cost is not None:
        print_audit(console, outcome.audit, machine=outcome.machine)
        print_cost(console, outcome.cost)
        if (measured := outcome.cost.measured) is not None and measured.litmus is not None:
            print_aliases(console, measured.litmus)


def _several(
    output: Output, outcomes: Sequence[AuditOutcome], fail_on: str, *, verbose: bool
) -> int:
    """The worst first, whatever the order they were asked for in; errors on standard error."""
    from staleline.report.machines.audits import (
        audits_document,
        outcome_findings,
        print_outcomes,
        worst_first,
    )

    ordered = worst_first(outcomes)
    if output.of_findings:
        output.write_findings(outcome_findings(ordered))
    elif output.format == "json":
        output.write_json(audits_document(ordered))
    else:
        with output.console() as console:
            print_outcomes(console, ordered)
            for outcome in ordered if verbose else ():
                console.rule(style="dim")
                _print(console, outcome)
    errors = [outcome for outcome in ordered if outcome.error is not None]
    for outcome in errors:
        # An error that has a place says it itself.
        where = "" if outcome.error is None or outcome.error.where else f"{outcome.machine}: "
        streams.complain(f"{where}{outcome.error}")
    statuses = {_status(outcome, fail_on) for outcome in ordered if outcome.error is None}
    return 1 if errors else next(status for status in _WORST_FIRST if status in statuses)


def _status(outcome: AuditOutcome, fail_on: str) -> int:
    status = outcome.verdict.status
    if fail_on == "risk" and outcome.verdict == "unknown":
        return 0
    if fail_on == "unneeded" and status == 0 and outcome.audit is not None:
        return 2 if any(row.unneeded for row in outcome.audit.handovers) else 0
    return status

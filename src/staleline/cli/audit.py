# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline audit``: one machine, one kernel, the transitions asked for."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import click

from staleline.cli.output import Output, output_options
from staleline.errors import ContradictionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from staleline.evidence.snapshot import Snapshot
    from staleline.verdict.audit import Audit
    from staleline.verdict.cost import Cost

__all__ = ["command"]

_STATUS = {"safe": 0, "at-risk": 2, "unknown": 3}


@click.command("audit")
@click.option(
    "--snapshot",
    "snapshot_file",
    metavar="FILE",
    help="A snapshot or CPUID dump; default: this host.",
)
@click.option(
    "--kernel",
    metavar="WHAT",
    help="The old kernel: an image, a release or a policy; default: the one the snapshot names.",
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
    "--msr",
    multiple=True,
    metavar="NUMBER=VALUE",
    help="An MSR the snapshot lacks, e.g. 0xc0010010=0x800000.",
)
@click.option(
    "--cmdline", metavar="TEXT", help="The old kernel's command line, e.g. mem_encrypt=on."
)
@click.option(
    "--state",
    multiple=True,
    metavar="NAME=VALUE",
    help="sme_active, sev_guests_run or tdx_module, if the snapshot lacks it.",
)
@click.option(
    "--bandwidth",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB/S",
    help="Memory bandwidth of a socket, for the cost; default: by the CPU's model.",
)
@click.option(
    "--measured", metavar="FILE", help="How long WBINVD took here, by docs/examples/wbinvd.bt."
)
@click.option("--traces", metavar="DIR", help="Write counterexamples there as ITF (.itf.json).")
@click.option(
    "--fail-on",
    type=click.Choice(["risk", "unknown", "unneeded"]),
    default="unknown",
    show_default=True,
    help="The least finding that makes the exit status non-zero.",
)
@click.option("--no-cache", is_flag=True, help="Run the image's code anew, and keep nothing.")
@output_options()
def command(  # noqa: PLR0913 - one parameter per option
    *,
    snapshot_file: str | None,
    kernel: str | None,
    following: str,
    append: str | None,
    reuse_cmdline: bool,
    path_name: str,
    msr: tuple[str, ...],
    cmdline: str | None,
    state: tuple[str, ...],
    bandwidth: float | None,
    measured: str | None,
    traces: str | None,
    fail_on: str,
    no_cache: bool,
    output: Output,
) -> int:
    """Could this kexec leave incoherent cache lines behind, and are they written back first?

    Exit status: 0 safe, 1 error, 2 at risk, 3 unknown.
    """
    from staleline.cli.following import next_kernel
    from staleline.evidence.given import given_by_user, with_given
    from staleline.facts import from_snapshot
    from staleline.verdict.audit import audit
    from staleline.verdict.choice import choose_kernels, image_files, judged_release
    from staleline.vocabulary import Path

    paths = tuple(Path) if path_name == "all" else (Path(path_name),)
    asked = _asked(following, path_name)
    try:
        snapshot = with_given(_observe(snapshot_file), msr=msr, cmdline=cmdline, state=state)
        next_one = next_kernel(
            following, snapshot, append=append, reuse=reuse_cmdline, crash=path_name == "crash"
        )
        kernels = choose_kernels(snapshot, kernel, use_cache=not no_cache)
        given = given_by_user(snapshot)
        facts = from_snapshot(snapshot, judged=judged_release(kernels, kernel))
        found = audit(facts, kernels, following=next_one, paths=paths, given=given)
    except ContradictionError as error:
        from staleline.cli.contradicted import write_contradicted
        from staleline.report.contradicted import Contradicted, contradicted_audit

        nothing = Contradicted(error.found, paths, kernel, asked)
        write_contradicted(output, nothing, contradicted_audit(nothing), snapshot_file)
        raise
    written = _write_traces(found, FilePath(traces)) if traces is not None else {}
    files = (*([snapshot_file] if snapshot_file else []), *image_files(kernels))
    price = _cost(found, snapshot, bandwidth, measured)
    machine = snapshot_file or "this host"
    _write(output, found, written, price, machine=machine, files=files, asked=asked)
    return _status(found, fail_on)


def _observe(snapshot_file: str | None) -> Snapshot:
    from staleline.evidence.detect import read_snapshot
    from staleline.evidence.live import collect

    return collect() if snapshot_file is None else read_snapshot(FilePath(snapshot_file))


def _asked(following: str, path_name: str) -> dict[str, str]:
    """What is left out of an audit of everything, by name."""
    asked = {"next_kernel": (following, "any"), "path": (path_name, "all")}
    return {name: value for name, (value, everything) in asked.items() if value != everything}


def _write_traces(found: Audit, directory: FilePath) -> dict[str, str]:
    """Write every counterexample; returns file name -> path."""
    import json

    from staleline.check.itf import itf_document
    from staleline.errors import UsageError
    from staleline.report.audit_json import trace_name

    written: dict[str, str] = {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for row in found.handovers:
            if row.answer is not None and row.answer.counterexample is not None:
                path = directory / trace_name(row)
                path.write_text(json.dumps(itf_document(row.answer.counterexample), indent=1))
                written[path.name] = str(path)
    except OSError as error:
        raise UsageError(error.strerror or "cannot be written", where=directory) from None
    return written


def _cost(
    found: Audit, snapshot: Snapshot, bandwidth: float | None, measured_file: str | None
) -> Cost:
    """What the flushes cost; `bandwidth` in GB/s."""
    from staleline.facts.capacity import cache_capacity
    from staleline.verdict.cost import bandwidth_of, cost
    from staleline.verdict.measured import read_measured

    given = None if bandwidth is None else bandwidth * 1e9
    measured = None if measured_file is None else read_measured(FilePath(measured_file))
    return cost(found, cache_capacity(snapshot), bandwidth_of(found.facts, given), measured)


def _write(  # noqa: PLR0913 - all that a report is made of
    output: Output,
    found: Audit,
    traces: dict[str, str],
    price: Cost,
    *,
    machine: str,
    files: Sequence[str],
    asked: Mapping[str, str],
) -> None:
    from staleline.report.audit_json import audit_document
    from staleline.report.audit_text import print_audit
    from staleline.report.cost import print_cost

    if output.of_findings:
        from staleline.report.findings import audit_findings

        output.write_findings([audit_findings(found, machine=machine, files=files, asked=asked)])
    elif output.format == "json":
        output.write_json(audit_document(found, traces, price))
    else:
        with output.console() as console:
            print_audit(console, found, machine=machine)
            print_cost(console, price)


def _status(found: Audit, fail_on: str) -> int:
    status = _STATUS[found.verdict]
    if fail_on == "risk" and found.verdict == "unknown":
        return 0
    if fail_on == "unneeded" and status == 0:
        return 2 if any(row.unneeded for row in found.handovers) else 0
    return status

# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline preflight``: is it safe to load this kernel here, and to start it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from staleline.cli.console.asked import asked_command_line
from staleline.cli.console.once import Once
from staleline.cli.console.output import Output, output_options
from staleline.cli.machine import GivenMachine, machine_options
from staleline.evidence.contradiction import ContradictionError

if TYPE_CHECKING:
    from staleline.verdict.audit.preflight import Preflight

__all__ = ["command"]

#: What is in `staleline.verdict.audit.preflight`, which takes long to import.
_ACCEPTABLE = ("load-settled",)


@click.command("preflight", cls=Once)
@click.option(
    "--next", "following", metavar="IMAGE", required=True, help="The image that will be loaded."
)
@click.option(
    "--append",
    metavar="CMDLINE",
    help="Its command line, as given to kexec; default: any.",
)
@click.option(
    "--reuse-cmdline", is_flag=True, help="The running kernel's command line, and --append."
)
@click.option("--crash", is_flag=True, help="It is loaded for a crash (kexec -p).")
@machine_options(
    snapshot="A snapshot or CPUID dump; default: this host.",
    cmdline="The running kernel's command line.",
)
@click.option(
    "--kernel",
    metavar="WHAT",
    help="The running kernel: an image, a release or a policy; default: the snapshot's.",
)
@click.option(
    "--accept",
    multiple=True,
    type=click.Choice(_ACCEPTABLE),
    help="Exit with 0 although a crash is safe only once what loading wrote has left the caches.",
)
@click.option("--explain", is_flag=True, help="Print the handovers and what was looked at too.")
@click.option("--no-cache", is_flag=True, help="Run the image's code anew, and keep nothing.")
@output_options()
def command(  # noqa: PLR0913 - one parameter per option
    *,
    following: str,
    append: str | None,
    reuse_cmdline: bool,
    crash: bool,
    machine: GivenMachine,
    kernel: str | None,
    accept: tuple[str, ...],
    explain: bool,
    no_cache: bool,
    output: Output,
) -> int:
    """Is it right to load this kernel with kexec, here and now, and to start it?

    For use before `kexec -l`, `kexec -p` and `systemctl kexec`. Prints one line.

    Exit status: 0 safe, or all that is not was accepted; 1 error, 2 at risk, 3 unknown.
    """
    from staleline.kernel.reading.decided import image_opener
    from staleline.report.machines.preflight import exit_status
    from staleline.verdict.audit.old_kernel import image_files
    from staleline.verdict.audit.preflight import preflight
    from staleline.verdict.audit.subject import subject_of
    from staleline.verdict.audit.wanted_next import next_image
    from staleline.vocabulary import Path

    path = Path.CRASH if crash else Path.KEXEC
    # Of the load and not of its path: an audit of that path has the handover's verdict alone.
    asked = {"next_kernel": following, "load": f"kexec -{'p' if crash else 'l'}"}
    asked |= asked_command_line(append, reuse=reuse_cmdline)
    host = None
    try:
        given = machine.given
        snapshot = machine.observed()
        host = snapshot.host
        subject = subject_of(
            snapshot, kernel, given, open_image=image_opener(use_cache=not no_cache)
        )
        image = next_image(
            following, subject.snapshot, append=append, reuse=reuse_cmdline, crash=crash
        )
        checked = preflight(subject, image, path, accept=accept)
    except ContradictionError as error:
        from staleline.cli.console.contradicted import write_contradicted
        from staleline.report.machines.contradicted import Contradicted, contradicted_preflight

        nothing = Contradicted(error.contradictions, (path,), kernel, asked)
        document = contradicted_preflight(nothing, following, str(error))
        write_contradicted(output, nothing, document, machine.file, host or error.host)
        raise
    shown = machine.file or "this host"
    if output.of_findings:
        from staleline.report.machines.preflight_findings import preflight_findings

        files = (*machine.files, *image_files(subject.kernels))
        told = preflight_findings(checked, machine=shown, files=files, host=host, asked=asked)
        output.write_findings([told])
    else:
        _write(output, checked, machine=shown, explain=explain)
    return exit_status(checked)


def _write(output: Output, checked: Preflight, *, machine: str, explain: bool) -> None:
    from staleline.report.machines.preflight import one_line, preflight_document, print_preflight

    if output.format == "json":
        output.write_json(preflight_document(checked))
    else:
        with output.console() as console:
            # One line however narrow the terminal is, as scripts take it.
            console.print(one_line(checked), soft_wrap=True, markup=False)
            if explain:
                print_preflight(console, checked, machine=machine)

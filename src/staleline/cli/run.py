# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline run``: a kernel that kexecs into another, on the simulated machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from staleline.cli.console.once import Once
from staleline.cli.console.output import Output, output_options
from staleline.errors import UsageError

if TYPE_CHECKING:
    from staleline.simulation.judgedrun import ControlledRun
    from staleline.vocabulary import Site

__all__ = ["command"]

_OF_FINDINGS = "one run on one machine is no verdict"
_REFUSED = dict.fromkeys(("sarif", "junit", "prometheus", "markdown"), _OF_FINDINGS)
_CLEAN, _DESTROYED, _NOT_OBSERVED = 0, 2, 3
#: Options of the machine's caches for each way in which lines leave.
_EVICTIONS: dict[str, dict[str, str | int]] = {
    "ordinary": {},
    "patient": {"size": 0, "wbinvd_lines": 8, "release": "handover", "release_order": "stale-last"},
    "restless": {"restless": 300},
}


@click.command("run", cls=Once)
@click.option("--kernel", required=True, metavar="IMAGE", help="The kernel to boot, a vmlinuz.")
@click.option("--next", "following", metavar="IMAGE", help="The next one; default: the same.")
@click.option(
    "--on",
    type=click.Choice(["amd", "amd-coherent", "hygon"]),
    default="amd",
    show_default=True,
    help="Whose CPUs: AMD of family 17h or 19h, Hygon of family 18h.",
)
@click.option("--path", type=click.Choice(["kexec", "crash"]), default="kexec", show_default=True)
@click.option("--cpus", type=click.IntRange(1, 15), default=2, show_default=True)
@click.option("--megabytes", type=click.IntRange(128, 3072), default=768, show_default=True)
@click.option(
    "--cmdline",
    default="mem_encrypt=on",
    show_default=True,
    metavar="TEXT",
    help="For the first kernel.",
)
@click.option(
    "--append",
    default="mem_encrypt=on",
    show_default=True,
    metavar="TEXT",
    help="For the next kernel.",
)
@click.option("--firmware-off", is_flag=True, help="Firmware has left SYSCFG[23] off.")
@click.option(
    "--without",
    type=click.Choice(["stop_this_cpu", "relocate_kernel"]),
    help="Take the WBINVD of this site away.",
)
@click.option(
    "--evictions",
    type=click.Choice(sorted(_EVICTIONS)),
    default="ordinary",
    show_default=True,
    help="When dirty lines leave: as caches are full; all at the jump; any at any time.",
)
@click.option(
    "--caches",
    multiple=True,
    metavar="NAME=VALUE",
    help="An option of the machine's caches (docs/machine.md).",
)
@click.option("--no-controls", is_flag=True, help="Run this alone.")
@click.option(
    "--timeout",
    type=click.FloatRange(1),
    default=3600.0,
    show_default=True,
    metavar="SECONDS",
    help="Switch each machine off after this time.",
)
@click.option("--keep", metavar="DIR", help="Leave consoles and events of all runs there.")
@output_options(refused=_REFUSED)
def command(  # noqa: PLR0913 - one parameter per option
    *,
    kernel: str,
    following: str | None,
    on: str,
    path: str,
    cpus: int,
    megabytes: int,
    cmdline: str,
    append: str,
    firmware_off: bool,
    without: str | None,
    evictions: str,
    caches: tuple[str, ...],
    no_controls: bool,
    timeout: float,
    keep: str | None,
    output: Output,
) -> int:
    """Boot a kernel on a simulated machine with incoherent caches, and kexec into another.

    Tells what was observed beside what is predicted, and runs controls: the same with coherent
    aliases, and on an AMD CPU, for which kernels flush. The machine is built by make machine.

    Exit status: 0 nothing was destroyed and the next kernel worked, 2 something was, or it did
    not, 3 not observed, 1 error.
    """
    from staleline.simulation.comparison import Bench, run_with_controls
    from staleline.simulation.emulator import built_machine
    from staleline.simulation.execution import RunBounds
    from staleline.simulation.experiment import Experiment, SimulatedCpus
    from staleline.simulation.judgedrun import RunQuestion
    from staleline.simulation.medium import boot_image
    from staleline.vocabulary import Path as HandoverPath
    from staleline.vocabulary import Site

    emulator = built_machine()
    site = None if without is None else Site(without)
    options: dict[str, str | int] = {**_EVICTIONS[evictions], **_pairs(caches)}
    if site is not None:
        options["skip_wbinvd"] = _place(kernel, site)
    question = RunQuestion(
        kernel=kernel,
        following=following or kernel,
        experiment=Experiment(
            kernel=boot_image(kernel),
            following=boot_image(following or kernel),
            command_line=cmdline,
            next_command_line=append,
            path=HandoverPath(path),
            machine=SimulatedCpus(on),
            cpus=cpus,
            megabytes=megabytes,
            mem_encrypt=not firmware_off,
            caches=options,
        ),
        without=site,
    )
    with tempfile.TemporaryDirectory(prefix="staleline-run-") as work:
        bench = Bench(
            emulator,
            Path(keep or work),
            RunBounds(seconds=timeout),
            lambda what: click.echo(f"staleline run: {what}", err=True),
        )
        controlled_run = run_with_controls(question, bench, controlled=not no_controls)
    if output.format == "json":
        from staleline.report.simulation.comparison_json import run_document

        output.write_json(run_document(controlled_run, emulator))
    else:
        from staleline.report.simulation.comparison_text import print_comparison

        with output.console() as console:
            print_comparison(console, controlled_run)
    return _status(controlled_run)


def _pairs(options: tuple[str, ...]) -> dict[str, str | int]:
    pairs = [option.partition("=") for option in options]
    for option, (name, _, value) in zip(options, pairs, strict=True):
        # bochsrc parts options at commas and blanks.
        if not name or not value or not option.isprintable() or set(option) & {",", " "}:
            raise UsageError(f"--caches {option!r}", do="give NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _place(kernel: str, site: Site) -> str:
    from staleline.kernel.image.assembly import load_image
    from staleline.simulation.skipping import skipped_flush

    return skipped_flush(load_image(kernel), site)


def _status(found: ControlledRun) -> int:
    from staleline.simulation.observation import RunOutcome

    match found.run.seen.outcome:
        case RunOutcome.CLEAN:
            return _CLEAN
        case RunOutcome.NOT_OBSERVED:
            return _NOT_OBSERVED
        case _:
            return _DESTROYED

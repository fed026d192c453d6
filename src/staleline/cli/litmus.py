# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline litmus``: ask hardware, and read what it answered."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from staleline.cli.console.once import Once
from staleline.cli.console.output import FINDING_FORMATS, Output, output_options
from staleline.errors import UsageError
from staleline.printable import printable

__all__ = ["command"]

_REFUSED = dict.fromkeys(FINDING_FORMATS, "what was measured is no verdict: audit --measured")
_NEXT = """\
On the machine that is to be asked (docs/litmus.md says what it risks):
  make -C {0} && sudo sh {1} result.jsonl
or with DKMS: sudo dkms install {0}
"""


@click.command("litmus", cls=Once)
@click.argument("directory", required=False, metavar="[DIRECTORY]")
@click.option(
    "--from",
    "trace",
    metavar="TRACE.itf.json",
    help="Write the test of a counterexample, for run.sh of the kit.",
)
@click.option("--read", "told", metavar="RESULT", help="Tell what run.sh was answered.")
@output_options(_REFUSED)
def command(
    *, directory: str | None, trace: str | None, told: str | None, output: Output
) -> int | None:
    """Write the kit that asks a machine whether its aliases are coherent, or read its answers.

    The kit is a kernel module with its tests, written to DIRECTORY (default: staleline-litmus).
    It runs on AMD's and Hygon's CPUs with SME, touches only pages of its own, and refuses where
    it could hurt.

    Exit status of --read: 0 incoherent, 2 incoherent where CPUID says coherent, 3 not observed,
    refused or not measured, 1 error.
    """
    if [directory, trace, told].count(None) < 2:
        raise UsageError("DIRECTORY, --from and --read exclude each other", do="give one of them")
    if told is not None:
        return _tell(told, output)
    if output.format == "json":
        raise UsageError("--json is for --read", do="leave it out")
    if trace is not None:
        from staleline.check.runs.replay import read_trace, replay
        from staleline.litmus.counterexample import counterexample_tests

        output.write(counterexample_tests(replay(read_trace(trace), trace), trace))
        return None
    from staleline.litmus.kit import write_kit

    folder = directory or "staleline-litmus"
    written = write_kit(folder)
    listed = "".join(f"{printable(str(path))}\n" for path in written)
    output.write(listed + _NEXT.format(_word(folder), _word(f"{folder}/run.sh")))
    return None


def _word(path: str) -> str:
    """A path as a word of a command line, which may begin like an option."""
    return printable(shlex.quote(f"./{path}" if path.startswith("-") else path))


def _tell(told: str, output: Output) -> int:
    from staleline.litmus.results import MeasuredAliases, read_litmus_result

    result = read_litmus_result(Path(told))
    if output.format == "json":
        from staleline.report.litmus.litmus_json import litmus_document

        output.write_json(litmus_document(result))
    else:
        from staleline.report.litmus.litmus_text import print_litmus

        with output.console() as console:
            print_litmus(console, result)
    if result.contradicts_cpuid:
        return 2
    return 0 if result.aliases is MeasuredAliases.INCOHERENT else 3

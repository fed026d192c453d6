# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline replay``: execute a counterexample again on the reference interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from staleline.cli.console.once import Once
from staleline.cli.console.output import FINDING_FORMATS, PICTURES, Output, output_options

if TYPE_CHECKING:
    from staleline.check.runs.trace import Counterexample

__all__ = ["command"]

_REFUSED = dict.fromkeys(FINDING_FORMATS, "a run is no verdict")


@click.command("replay", cls=Once)
@click.argument("trace", metavar="TRACE.itf.json")
@output_options(_REFUSED, extra=PICTURES)
def command(*, trace: str, output: Output) -> None:
    """Execute a counterexample step by step, and refuse it if the model has changed.

    With --format svg the whole run is a picture, lanes by steps; mermaid and plantuml write the
    text of one.

    Exit status: 0 the property is broken as the trace says, 1 it could not be shown.
    """
    from staleline.check.runs.replay import read_trace, replay
    from staleline.report.policies.replay import replay_document
    from staleline.report.words.lanes import lanes

    counterexample = replay(read_trace(trace), trace)
    if output.format in PICTURES:
        output.write(_picture(counterexample, output.format))
    elif output.format == "json":
        output.write_json(replay_document(counterexample))
    else:
        with output.console() as console:
            console.print(lanes(counterexample))
            broken = counterexample.property
            console.print(f"\nReplayed: every step is possible, and the last one breaks {broken}.")


def _picture(run: Counterexample, form: str) -> str:
    from staleline.report.pictures.sequence import mermaid, plantuml
    from staleline.report.pictures.svg import svg

    title = f"{run.property} broken, {run.scenario.path}, {run.line}"
    return {"svg": svg, "mermaid": mermaid, "plantuml": plantuml}[form](run, title)

# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline replay``: execute a counterexample again on the reference interpreter."""

from __future__ import annotations

import click

from staleline.cli.console.once import Once

__all__ = ["command"]


@click.command("replay", cls=Once)
@click.argument("trace", metavar="TRACE.itf.json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(*, trace: str, as_json: bool) -> None:
    """Execute a counterexample step by step, and refuse it if the model has changed.

    Exit status: 0 the property is broken as the trace says, 1 it could not be shown.
    """
    from staleline.check.runs.replay import read_trace, replay
    from staleline.report.policies.replay import replay_document
    from staleline.report.words.console import print_json, text_console
    from staleline.report.words.lanes import lanes

    counterexample = replay(read_trace(trace), trace)
    if as_json:
        print_json(replay_document(counterexample))
        return
    console = text_console()
    console.print(lanes(counterexample))
    broken = counterexample.property
    console.print(f"\nReplayed: every step is possible, and the last one breaks {broken}.")

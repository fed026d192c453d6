# SPDX-License-Identifier: GPL-2.0-or-later
"""A counterexample as lanes: a column per CPU and one for DRAM, a sentence per step."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from staleline.check.runs.trace import DRAM_NAME, SHARED_NAME, Counterexample, Step

__all__ = ["lanes"]

_STYLES = {"dirty, old": "yellow", "destroyed": "bold red", "faulted": "bold red"}


#: Room for the longest word of a lane.
_LANE = len("destroyed")


def lanes(counterexample: Counterexample) -> RenderableType:
    """Render a counterexample for a terminal; readable without colour.

    Each step is numbered, told in a sentence, and followed by the values that it changed,
    each in the lane of its CPU.
    """
    return Group(_caption(counterexample), Text(), _table(counterexample))


def _caption(counterexample: Counterexample) -> Text:
    steps = len(counterexample.steps)
    return Text.assemble(
        (f"{counterexample.property} broken: ", "bold"),
        counterexample.title,
        f"\nLine role: {counterexample.line}. A shortest run, {steps} steps. "
        "Lanes show what each step changed.",
    )


def _table(counterexample: Counterexample) -> Table:
    changed = {change.cpu for step in counterexample.steps for change in step.changes}
    shared = (SHARED_NAME,) if SHARED_NAME in changed else ()
    columns = (*counterexample.cpus, *shared, DRAM_NAME)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("what happens", ratio=1, min_width=24)
    for column in columns:
        table.add_column(column, min_width=_LANE)
    last = len(counterexample.steps)
    for number, step in enumerate(counterexample.steps, 1):
        sentence = Text(step.sentence, style="bold" if number == last else "")
        table.add_row(str(number), sentence, *(_cell(step, column) for column in columns))
    return table


def _cell(step: Step, column: str) -> Text:
    """The values of one lane that a step changed, one per line."""
    shown = [
        _value(change.variable, change.after) for change in step.changes if change.cpu == column
    ]
    return Text("\n").join(shown)


def _value(variable: str, after: str) -> Text:
    label = "" if variable in {"at", "line"} else f"{variable}: "
    return Text.assemble(label, (after, _STYLES.get(after, "")))

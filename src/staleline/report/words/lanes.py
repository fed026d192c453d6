# SPDX-License-Identifier: GPL-2.0-or-later
"""A counterexample as lanes: a column per CPU and one for DRAM, a sentence per step.

Where there is no room for lanes, what a step changed stands below its sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.text import Text

from staleline.check.runs.trace import DRAM_NAME, SHARED_NAME, Change, Counterexample, Step
from staleline.report.words.tables import Table

__all__ = ["change_words", "lanes", "steps_in_lines"]

_STYLES = {
    "dirty, old": "yellow",
    "destroyed": "bold red",
    "overwritten by the old kernel": "bold red",
    "faulted": "bold red",
}

#: Room for the longest word of a lane.
_LANE = len("destroyed")
_SENTENCE = 24


def lanes(counterexample: Counterexample) -> RenderableType:
    """Render a counterexample for a terminal; readable without colour.

    Each step is numbered, told in a sentence, and followed by the values that it changed,
    each in the lane of its CPU.
    """
    return _Lanes(counterexample)


@dataclass(frozen=True, slots=True)
class _Lanes:
    """Lanes, or lines where no lane would be whole."""

    counterexample: Counterexample

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        wide = _least_width(self.counterexample) <= options.max_width
        yield _caption(self.counterexample, "Lanes show what each step changed." if wide else "")
        yield Text()
        yield _table(self.counterexample) if wide else steps_in_lines(self.counterexample)


def steps_in_lines(counterexample: Counterexample) -> RenderableType:
    """The numbered sentences, each with what it changed in brackets."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for number, step in enumerate(counterexample.steps, 1):
        changes = "; ".join(f"{change.cpu}, {change_words(change)}" for change in step.changes)
        table.add_row(f"{number}.", Group(Text(step.sentence), Text(f"[{changes}]", "dim")))
    return table


def _least_width(counterexample: Counterexample) -> int:
    """With every value of a lane on one line."""
    values = [
        (change.cpu, _value(change.variable, change.after).cell_len)
        for step in counterexample.steps
        for change in step.changes
    ]
    lanes_width = sum(
        2 + max(_LANE, len(column), *(width for cpu, width in values if cpu == column))
        for column in _columns(counterexample)
    )
    return len("10") + 2 + _SENTENCE + lanes_width


def _columns(counterexample: Counterexample) -> tuple[str, ...]:
    changed = {change.cpu for step in counterexample.steps for change in step.changes}
    shared = (SHARED_NAME,) if SHARED_NAME in changed else ()
    return (*counterexample.cpus, *shared, DRAM_NAME)


def _caption(counterexample: Counterexample, how: str) -> Text:
    steps = len(counterexample.steps)
    return Text.assemble(
        (f"{counterexample.property} broken: ", "bold"),
        counterexample.title,
        f"\nLine role: {counterexample.line}. A shortest run, {steps} steps. {how}".rstrip(),
    )


def _table(counterexample: Counterexample) -> Table:
    columns = _columns(counterexample)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("what happens", ratio=1, min_width=_SENTENCE)
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


def change_words(change: Change) -> str:
    """For instance ``C-bit: dirty, old``."""
    return _value(change.variable, change.after).plain


def _value(variable: str, after: str) -> Text:
    label = "" if variable in {"at", "line"} else f"{variable}: "
    return Text.assemble(label, (after, _STYLES.get(after, "")))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts of a machine as text: one table per layer, each fact with its source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text

from staleline.evidence.contradiction import Contradiction
from staleline.facts import Fact, Layer, MachineFacts
from staleline.printable import printable

__all__ = ["print_contradictions", "print_facts"]

_TITLES = {
    Layer.IDENTITY: "machine",
    Layer.HARDWARE: "hardware can",
    Layer.FIRMWARE: "firmware enabled",
    Layer.KERNEL: "kernel does",
}
_HEXADECIMAL = frozenset({"max_basic_leaf", "max_extended_leaf"})
#: Between columns.
_GAP: Final = "    "
_VALUE_MAX: Final = 32
#: No evidence is folded into less, however narrow the terminal.
_EVIDENCE_MIN: Final = 16


def print_facts(console: Console, file: str, facts: MachineFacts) -> None:
    """Print every fact; unknown ones say what is missing and how to get it.

    Args:
        console: Where to.
        file: The evidence, for the heading.
        facts: What it tells.
    """
    console.print(Text(printable(file), style="bold"))
    for layer, title in _TITLES.items():
        console.print()
        console.print(Text(title, style="bold cyan"))
        console.print(_Rows(facts.layer(layer)))


def print_contradictions(
    console: Console, file: str, contradictions: Sequence[Contradiction]
) -> None:
    """Print why no fact is told: each contradiction of `file`, and what to do about it."""
    console.print(Text(printable(file), style="bold"))
    console.print(Text("contradicts itself; no fact is read from it", style="red"))
    for one in contradictions:
        console.print()
        console.print(Text(f"  {one.id}", style="bold"))
        console.print(Text(f"    {printable(one.what)}; {one.kind.do}"))


class _Rows:
    """Facts in three columns: what a table of rich's would show, for a fraction of the time.

    That measures every cell several times, which takes longer than to read most evidence.
    """

    def __init__(self, facts: Iterable[Fact]) -> None:
        self._rows = [(fact.name, *_value(fact), _evidence(fact)) for fact in facts]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        name_width = max(len(name) for name, *_ in self._rows)
        value_width = min(max(len(value) for _, value, _, _ in self._rows), _VALUE_MAX)
        left = options.max_width - name_width - 3 * len(_GAP)
        longest = max(len(evidence) for *_, evidence in self._rows)
        if left - value_width < min(value_width, longest):
            value_width = left // 2
        width = left - value_width
        dim = console.get_style("dim")
        for name, value, style, evidence in self._rows:
            values = _folded(console, value, value_width)
            sources = _folded(console, evidence, max(width, _EVIDENCE_MIN))
            named = console.get_style(style) if style else None
            for number, (part, source) in enumerate(zip_longest(values, sources, fillvalue="")):
                yield Segment(f"  {'' if number else name:<{name_width}}{_GAP}")
                yield Segment(part, named)
                yield Segment(" " * (value_width - len(part)) + _GAP)
                yield Segment(source, dim)
                yield Segment.line()


def _folded(console: Console, text: str, width: int) -> list[str]:
    """The lines of `text` at this width, where words end if they can."""
    if len(text) <= width and text.isascii():
        return [text]
    return [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold")]


def _evidence(fact: Fact) -> str:
    return printable((fact.source if fact.missing is None else fact.missing) or "")


def _value(fact: Fact) -> tuple[str, str]:
    """The value in words, and its style."""
    value = fact.value
    if value is None:
        return "unknown", "yellow"
    if isinstance(value, bool):
        return ("yes" if value else "no"), ""
    if isinstance(value, tuple):
        return (", ".join(printable(str(one)) for one in value) or "none"), ""
    if isinstance(value, int) and fact.name in _HEXADECIMAL:
        return f"{value:#010x}", ""
    return printable(str(value)), ""

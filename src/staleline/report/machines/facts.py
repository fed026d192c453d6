# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts of a machine as text: one table per layer, each fact with its source."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
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
        console.print(_table(facts, layer))


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


def _table(facts: MachineFacts, layer: Layer) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column("fact", no_wrap=True)
    table.add_column("value", max_width=32, overflow="fold")
    table.add_column("evidence", style="dim", overflow="fold")
    for fact in facts.layer(layer):
        evidence = fact.source if fact.missing is None else fact.missing
        table.add_row(fact.name, _value(fact), Text(printable(evidence or "")))
    return table


def _value(fact: Fact) -> Text:
    value = fact.value
    if value is None:
        return Text("unknown", style="yellow")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, tuple):
        return Text(", ".join(printable(str(one)) for one in value) or "none")
    if isinstance(value, int) and fact.name in _HEXADECIMAL:
        return Text(f"{value:#010x}")
    return Text(printable(str(value)))

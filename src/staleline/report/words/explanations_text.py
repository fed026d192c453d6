# SPDX-License-Identifier: GPL-2.0-or-later
"""Explanations for a terminal, and as ``staleline/explain/1``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from staleline.report.words.console import kept_whole, markup_escape
from staleline.report.words.explanations import Explanation, Kind
from staleline.report.words.tables import Table

__all__ = ["HEADINGS", "explanations_document", "print_list", "print_pages"]

#: What a kind of pages stands under.
HEADINGS = {
    Kind.VIOLATION: "What the model found",
    Kind.FAULT: "Faults",
    Kind.UNNEEDED: "Flushes that nothing required",
    Kind.UNKNOWN: "What is not known",
    Kind.CONTRADICTION: "Contradictions in evidence",
    Kind.BUG: "Known bugs of kernels",
    Kind.KERNEL: "What an image carries",
    Kind.CHANGE: "What changes from one rule or image to another",
    Kind.LOAD: "Before a load",
    Kind.CHECK: "Checks",
    Kind.PROPERTY: "What must hold of a handover",
    Kind.ROLE: "The lines that it is asked of",
}


def explanations_document(pages: Sequence[Explanation]) -> dict[str, Any]:
    """The JSON document."""
    return {
        "schema": "staleline/explain/1",
        "explanations": [_document(page) for page in pages],
    }


def _document(page: Explanation) -> dict[str, Any]:
    return asdict(page) | {"sources": list(page.sources), "bugs": list(page.bugs)}


def print_list(console: Console, pages: Sequence[Explanation]) -> None:
    """Ids with their titles, kind by kind."""
    for kind, group in groupby(pages, key=lambda page: page.kind):
        console.print(f"[bold]{HEADINGS[kind]}[/]")
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        for page in group:
            grid.add_row(f"  {page.id}", markup_escape(page.title))
        console.print(grid)
        console.print()


def print_pages(console: Console, pages: Sequence[Explanation]) -> None:
    """Pages in full."""
    for page in pages:
        console.print(f"[bold]{page.id}[/]  {markup_escape(page.title)}")
        for label, texts in _parts(page):
            console.print(f"\n{label}")
            for text in texts:  # one by one: escaping leaves no line break
                console.print(Padding(Text(kept_whole(text)), (0, 0, 0, 2), expand=False))
        console.print()


def _parts(page: Explanation) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "It means", (page.means,)
    yield "It rests on", (page.evidence,)
    yield "What to do", (page.do,)
    if page.sources:
        yield "Sources", page.sources

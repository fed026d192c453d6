# SPDX-License-Identifier: GPL-2.0-or-later
"""Handovers, or hosts, as a table where every word of it has room, else one below the other.

Whatever the width, nothing is elided, and what tells a handover from others stays in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.text import Text

from staleline.report.words.tables import Table

__all__ = ["Column", "HandoverTable"]

_GAP = 2
_INDENT = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `HandoverTable`.

    Attributes:
        heading: Its name; below each other, what stands before a cell.
        whole: It is never wrapped in a table.
        first: It tells which handover this is, or the verdict, and comes first where rows are
            below each other; what is whole does.
        style: For all of it.
        right: It is of figures, which end below each other.
    """

    heading: str
    whole: bool = False
    first: bool = False
    style: str = ""
    right: bool = False


@dataclass(frozen=True)
class HandoverTable:
    """Some rows, which fit themselves into the width there is."""

    columns: tuple[Column, ...]
    _rows: list[tuple[Text, ...]] = field(default_factory=list)

    def add(self, *cells: str | Text) -> None:
        """One more row, a cell per column; a text has no markup."""
        self._rows.append(tuple(Text(one) if isinstance(one, str) else one for one in cells))

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        widths = self._widths(options.max_width)
        if widths is None:
            yield from self._below_each_other()
        else:
            yield self._table(widths)

    def _widths(self, room: int) -> list[int] | None:
        """Of each column; None if their words have no room.

        Not left to rich, which levels the widths of columns whatever they need at least, and cuts
        what stands beyond the edge then.
        """
        numbers = range(len(self.columns))
        widths = [self._least(number) for number in numbers]
        wanted = [self._most(number) for number in numbers]
        spare = room - sum(widths) - _GAP * (len(widths) - 1)
        if spare < 0:
            return None
        # One column each in turn, so that none takes all of it.
        while spare and (short := [one for one in numbers if widths[one] < wanted[one]]):
            for number in short[:spare]:
                widths[number] += 1
            spare -= min(spare, len(short))
        return widths

    def _least(self, number: int) -> int:
        column = self.columns[number]
        cells = [row[number].plain for row in self._rows]
        pieces = cells if column.whole else [word for cell in cells for word in cell.split()]
        return max(map(len, (*_words(column), *pieces)), default=0)

    def _most(self, number: int) -> int:
        cells = (row[number].plain for row in self._rows)
        return max(map(len, (self.columns[number].heading, *cells)))

    def _table(self, widths: Sequence[int]) -> Table:
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
        for column, width in zip(self.columns, widths, strict=True):
            table.add_column(
                Text(column.heading),
                justify="right" if column.right else "left",
                no_wrap=column.whole,
                width=width,
                style=column.style,
            )
        for row in self._rows:
            table.add_row(*row)
        return table

    def _below_each_other(self) -> Iterator[RenderableType]:
        for row in self._rows:
            cells = list(zip(self.columns, row, strict=True))
            yield Text("  ").join(cell for column, cell in cells if _leads(column))
            told = [
                f"{column.heading}: {cell.plain}"
                for column, cell in cells
                if not _leads(column) and cell.plain
            ]
            yield Padding(Text("; ".join(told), overflow="fold"), (0, 0, 0, _INDENT))


def _leads(column: Column) -> bool:
    return column.whole or column.first


def _words(column: Column) -> list[str]:
    return [column.heading] if column.whole else column.heading.split()

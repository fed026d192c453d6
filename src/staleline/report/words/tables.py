# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables that show every word whole, however narrow the terminal is."""

from __future__ import annotations

from typing import Any

import rich.table

__all__ = ["Table"]


class Table(rich.table.Table):
    """One of rich's, of which no column elides a word that is longer than there is room.

    What is elided may be the part that tells an identifier, a host or a condition from others.
    """

    def add_column(self, *header: Any, overflow: Any = "fold", **options: Any) -> None:
        """As rich does; a word without room goes on below."""
        super().add_column(*header, overflow=overflow, **options)

    @classmethod
    def grid(cls, *headers: Any, **options: Any) -> Table:
        """As rich does."""
        grid = super().grid(*headers, **options)
        assert isinstance(grid, cls)
        return grid

    def add_row(self, *cells: Any, **options: Any) -> None:
        """As rich does, which makes columns of its own for cells that have none."""
        for _ in cells[len(self.columns) :]:
            self.add_column()
        super().add_row(*cells, **options)

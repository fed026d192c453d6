# SPDX-License-Identifier: GPL-2.0-or-later
"""Some pointers of a table, and what comes near them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["WIDEST_STORE", "Pointers"]

#: The widest store that begins before a pointer and reaches it.
WIDEST_STORE: Final = 64


@dataclass(frozen=True, slots=True)
class Pointers:
    """Some of a table.

    Attributes:
        table: Where it begins.
        slots: Their addresses, rising.
        size: Of each; what is no pointer may be smaller.
    """

    table: int
    slots: tuple[int, ...]
    size: int = 8

    @property
    def extent(self) -> range:
        """From the start of the table to behind the last of them."""
        return range(self.table, self.slots[-1] + self.size)

    @property
    def reachable(self) -> range:
        """Where what points to something of it may point, or a little before it."""
        return range(self.table - WIDEST_STORE, self.extent.stop)

    def may_begin(self, address: int) -> bool:
        """Is it in the table, or so little before it that a store there may reach it?"""
        return self.table - WIDEST_STORE < address < self.extent.stop

    def reached(self, address: int, size: int) -> tuple[int, ...]:
        """Those that so many bytes at an address overlap."""
        return tuple(at for at in self.slots if at < address + size and address < at + self.size)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Another way than the one that an instruction takes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Detour"]


@dataclass(frozen=True, slots=True)
class Detour:
    """Another way at one of the times that an instruction is executed.

    Attributes:
        address: Where it is executed.
        visits: How often it is executed before.
        target: Where to go on.
    """

    address: int
    visits: int
    target: int

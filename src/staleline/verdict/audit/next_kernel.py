# SPDX-License-Identifier: GPL-2.0-or-later
"""Which next kernels are asked about: by their use of memory encryption."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from staleline.verdict.machines.machine import Machine

__all__ = ["Following", "Next"]


class Following(Protocol):
    """What is known of the next kernel."""

    def choices(self, machine: Machine, old: bool) -> tuple[tuple[bool, ...], ...]:
        """Its possible uses of the C-bit on a machine; several where that is not known.

        Args:
            machine: Where it starts.
            old: The old kernel uses the C-bit.

        Returns:
            One tuple per way in which what is unknown may turn out. Each lists the uses that
            are asked about.
        """


class Next(StrEnum):
    """Next kernels by their use of memory encryption."""

    ON = "on"
    OFF = "off"
    SAME = "same"
    ANY = "any"

    def choices(self, machine: Machine, old: bool) -> tuple[tuple[bool, ...], ...]:
        """What is asked for."""
        if (only := machine.only_use) is not None:
            return ((only,),)
        match self:
            case Next.SAME:
                return ((old,),)
            case Next.ANY:
                return ((False, True),)
            case _:
                return ((self is Next.ON,),)

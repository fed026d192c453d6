# SPDX-License-Identifier: GPL-2.0-or-later
"""How a run ends, and what it may take until then."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from staleline.kernel.emulator.notedstores import NotedAccess

__all__ = ["ORDINARY_LIMITS", "End", "EndKind", "NullUses", "RunLimits"]


class NullUses(NamedTuple):
    """How many runs ended in the first page, where no kernel has anything.

    Attributes:
        calls: They went there, as through a pointer to a function that is not set.
        accesses: They read or wrote there, as through a pointer to something that is not set.
    """

    calls: int = 0
    accesses: int = 0


class EndKind(StrEnum):
    """How a run ended."""

    RETURNED = "returned"
    HALTED = "halted"
    HANDED_OVER = "handed over"
    SENT = "sent an interrupt"
    LOOKED = "looked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class End:
    """Where and how a run ended.

    Attributes:
        kind: How.
        address: Where.
        detail: What happened, if it failed.
        vector: Of the interrupt that it sent to other CPUs.
        stores: What the CPU stored after its last WBINVD, in order; None if it executed none
            in this run, or while it was watched.
        interruptible: It halted with interrupts enabled, so that one makes it go on.
        endless: It failed, because it came to no end within its limits.
        unmodelled: It failed, because it asked for what the emulated machine does not have.
    """

    kind: EndKind
    address: int
    detail: str = ""
    vector: int | None = None
    stores: tuple[NotedAccess, ...] | None = None
    interruptible: bool = False
    endless: bool = False
    unmodelled: bool = False

    @property
    def ends_elsewhere(self) -> bool:
        """It returned, halted, or goes on for ever, and did not just meet what is not known."""
        return self.endless or self.kind is not EndKind.FAILED


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What one run may take, once it has taken more time than runs do that end."""

    instructions: int = 2_000_000
    seconds: float = 5.0


ORDINARY_LIMITS: Final = RunLimits()

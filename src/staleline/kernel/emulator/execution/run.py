# SPDX-License-Identifier: GPL-2.0-or-later
"""What an engine runs at the moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from staleline.kernel.emulator.execution.end import End, RunLimits
from staleline.kernel.emulator.knowncalls import TakenMemory
from staleline.kernel.emulator.traps import CpuState, LogicalCpu

__all__ = ["EngineRun", "RunTerms"]


@dataclass(frozen=True, slots=True)
class RunTerms:
    """On which terms code is run.

    Attributes:
        cpu: The CPU that runs it.
        limits: What it may take.
        at_flush: Called at every WBINVD, before it takes effect.
        until_sent: It ends where it sends an interrupt to other CPUs.
        in_interrupt: It ends where it returns from the interrupt that it was begun by.
        taken: Told what it takes from memory, where that is noted.
    """

    cpu: LogicalCpu
    limits: RunLimits
    at_flush: Callable[[], None] | None = None
    until_sent: bool = False
    in_interrupt: bool = False
    taken: TakenMemory | None = None


class EngineRun:
    """The run of one engine, or the last one while there is none.

    Attributes:
        terms: On which terms.
        end: How it ended, if it has.
        behind: Its registers behind a WBINVD from which it goes on in another engine.

    Args:
        stop: Ends what the engine runs.
    """

    terms: RunTerms

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self.end: End | None = None
        self.behind: CpuState | None = None

    @property
    def cpu(self) -> LogicalCpu:
        """That runs the code."""
        return self.terms.cpu

    @property
    def goes_on(self) -> bool:
        """It has come to no end, nor to a WBINVD behind which it goes on elsewhere."""
        return self.end is None and self.behind is None

    def begin(self, terms: RunTerms) -> None:
        """Another one."""
        self.terms, self.end, self.behind = terms, None, None

    def stop(self, end: End) -> None:
        """End it."""
        # The engine may come to another hook before it stops: what came first ended the run.
        if self.end is None:
            self.end = end
        self._stop()

    def go_on_elsewhere(self, state: CpuState) -> None:
        """Leave it to another engine."""
        self.behind = state
        self._stop()

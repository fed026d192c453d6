# SPDX-License-Identifier: GPL-2.0-or-later
"""What must never happen in a handover, stated over cache entries and places of CPUs."""

from __future__ import annotations

from staleline.model.cpus import (
    ABSENT,
    DRAM,
    JUMPING,
    NEWEST,
    Data,
    JumpingAt,
    SecondaryAt,
    each,
)
from staleline.model.form import Any, Expr, Property, Ref, any_of
from staleline.model.lines import Alias, Line
from staleline.model.nextkernel import encrypts_in_place
from staleline.model.scenario import Scenario
from staleline.model.wbinvd import SEAMCALLED, flushes

__all__ = ["P1", "P2", "P3", "P4", "P4_TITLE", "handover_done", "properties"]

P1, P2, P3, P4 = "P1", "P2", "P3", "P4"

P4_TITLE = "The handover stays reachable: no CPU waits forever."


def properties(scenario: Scenario, line: Line) -> tuple[Property, ...]:
    """P1 to P3; P4 is the model's goal."""
    return (
        Property(
            P1,
            "No stale write-back over, and no stale read of, memory the next kernel has written.",
            DRAM.one_of(Data.LOST) | _stale_read(scenario, line),
        ),
        Property(
            P2,
            "No handover while a secondary still has its flush ahead of it.",
            _flush_ahead(scenario, line),
        ),
        Property(P3, "WBINVD never executes where it faults.", _faulted()),
    )


def handover_done() -> Expr:
    """The next kernel runs with its own alias."""
    return JUMPING.at(JumpingAt.NEXT)


def _stale_read(scenario: Scenario, line: Line) -> Expr:
    """A CPU holds an entry that the next kernel reads, while DRAM holds newer data."""
    secondary = each("pc").one_of(SecondaryAt.NEXT) & _stale(each(line.next), line.next)
    jumping = JUMPING.at(JumpingAt.NEXT) & _stale(JUMPING.entry(line.next), line.next)
    early = (
        [JUMPING.at(JumpingAt.EARLY) & _stale(JUMPING.entry(line.early), line.early)]
        if encrypts_in_place(scenario) and line.converted
        else []
    )
    return any_of(jumping, Any(secondary), *early)


def _stale(entry: Ref, alias: Alias) -> Expr:
    return entry.none_of(ABSENT) & NEWEST.none_of(alias) & DRAM.one_of(Data.NEWEST)


def _flush_ahead(scenario: Scenario, line: Line) -> Expr:
    left = JUMPING.ref("pc").none_of(JumpingAt.RUNNING, JumpingAt.WAITING, JumpingAt.FAULTED)
    undecided = each("pc").one_of(SecondaryAt.STOPPING, SecondaryAt.REPORTED)
    decided = each("pc").one_of(SecondaryAt.FLUSHING)
    will_flush = flushes(scenario, line, scenario.flush_secondary, each(SEAMCALLED)).flushes
    return left & Any(decided | (undecided & will_flush))


def _faulted() -> Expr:
    return JUMPING.at(JumpingAt.FAULTED) | Any(each("pc").one_of(SecondaryAt.FAULTED))

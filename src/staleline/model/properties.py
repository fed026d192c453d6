# SPDX-License-Identifier: GPL-2.0-or-later
"""What must never happen in a handover, stated over cache entries and places of CPUs."""

from __future__ import annotations

from staleline.model.form import Any, Expr, Property, Ref, any_of
from staleline.model.scenario import Scenario, Stop
from staleline.model.state.cpus import (
    ABSENT,
    DRAM,
    JUMPING,
    NEWEST,
    SEAMCALLED,
    Data,
    JumpingAt,
    SecondaryAt,
    each,
)
from staleline.model.state.lines import Alias, Line
from staleline.model.steps.oldkernel import can_overwrite
from staleline.model.steps.wbinvd import flushes

__all__ = ["P1", "P2", "P3", "P4", "P4_TITLE", "P5", "handover_done", "properties"]

P1, P2, P3, P4, P5 = "P1", "P2", "P3", "P4", "P5"

P4_TITLE = "The handover stays reachable: no CPU waits forever."


def properties(scenario: Scenario, line: Line) -> tuple[Property, ...]:
    """P1 to P3, and P5 where CPUs may go on with the old kernel; P4 is the model's goal."""
    stragglers = (
        Property(
            P5,
            "No store of the old kernel to memory that the next kernel has written.",
            DRAM.one_of(Data.OVERWRITTEN),
        ),
    )
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
        *(stragglers if can_overwrite(scenario) else ()),
    )


def handover_done() -> Expr:
    """The next kernel runs with its own alias."""
    return JUMPING.at(JumpingAt.NEXT)


def _stale_read(scenario: Scenario, line: Line) -> Expr:
    """A CPU holds an entry that the next kernel reads, while DRAM holds newer data."""
    # An entry alone is no harm: it has to be one that the kernel on that CPU reads through.
    secondary = each("pc").one_of(SecondaryAt.NEXT) & _stale(each(line.next), line.next)
    jumping = JUMPING.at(JumpingAt.NEXT) & _stale(JUMPING.entry(line.next), line.next)
    early = (
        [JUMPING.at(JumpingAt.EARLY) & _stale(JUMPING.entry(line.early), line.early)]
        if scenario.encrypts_in_place and line.converted
        else []
    )
    return any_of(jumping, Any(secondary), *early)


def _stale(entry: Ref, alias: Alias) -> Expr:
    return entry.none_of(ABSENT) & NEWEST.none_of(alias) & DRAM.one_of(Data.NEWEST)


def _flush_ahead(scenario: Scenario, line: Line) -> Expr:
    left = JUMPING.ref("pc").none_of(JumpingAt.RUNNING, JumpingAt.WAITING, JumpingAt.FAULTED)
    # Two kinds of place: where the site has yet to ask whether it flushes, and where it is at it.
    deciding = [SecondaryAt.STOPPING, SecondaryAt.REPORTED]
    flushing = [SecondaryAt.FLUSHING]
    if scenario.stop is Stop.GIVES_UP:
        deciding += [SecondaryAt.RUNNING]
    if scenario.late_nmi:
        deciding += [SecondaryAt.REENTERED]
        flushing += [SecondaryAt.REFLUSHING]
    if scenario.plays_dead:
        flushing += [SecondaryAt.OFFLINING]
    undecided, decided = each("pc").one_of(*deciding), each("pc").one_of(*flushing)
    will_flush = flushes(scenario, line, scenario.flush_secondary, each(SEAMCALLED)).flushes
    return left & Any(decided | (undecided & will_flush))


def _faulted() -> Expr:
    return JUMPING.at(JumpingAt.FAULTED) | Any(each("pc").one_of(SecondaryAt.FAULTED))

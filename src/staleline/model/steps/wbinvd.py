# SPDX-License-Identifier: GPL-2.0-or-later
"""WBINVD: at which sites it is executed, and when it is complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from staleline.model.form import FALSE, TRUE, All, Assign, Expr, Ref, all_of
from staleline.model.scenario import Flush, ForeignLines, Scenario, SharedCache
from staleline.model.state.cpus import (
    ABSENT,
    DIRTY,
    JUMPING,
    SEAMCALLED,
    Cpu,
    counts_seamcalls,
    each,
)
from staleline.model.state.lines import Alias, Line
from staleline.model.state.sharedcache import shared_clean

__all__ = ["Choice", "completes", "flushes", "forgets"]


class Choice(NamedTuple):
    """When a site may execute WBINVD, and when it may go on without."""

    flushes: Expr
    skips: Expr


def flushes(scenario: Scenario, line: Line, flush: Flush, seamcalled: Ref) -> Choice:
    """What a site does on the CPU that this flag belongs to."""
    if flush is Flush.ALWAYS:
        return Choice(TRUE, FALSE)
    if flush is Flush.NEVER or scenario.foreign is not ForeignLines.TDX:
        return Choice(FALSE, TRUE)
    # A SEAMCALL that dirties other lines than this one may have been made or not.
    if not counts_seamcalls(scenario, line):
        return Choice(TRUE, TRUE)
    return Choice(seamcalled.one_of("yes"), seamcalled.one_of("no"))


def forgets(scenario: Scenario, line: Line, cpu: Cpu) -> tuple[Assign, ...]:
    """Past its site nobody asks for a CPU's SEAMCALLs again: fewer states to tell apart."""
    # A late NMI takes a CPU through its site a second time.
    if scenario.late_nmi or not counts_seamcalls(scenario, line):
        return ()
    return (cpu.ref(SEAMCALLED).becomes("no"),)


def completes(scenario: Scenario, line: Line, cpu: Cpu) -> tuple[Expr, tuple[Assign, ...]]:
    """When a WBINVD that runs on this CPU is complete, and what it leaves."""
    # It takes time: evictions go on in any order meanwhile, and it is complete once nothing dirty
    # is left where it reaches. If it reached further, that would be an eviction at that moment,
    # which may happen anyway.
    clean = [_nothing_dirty(line, cpu.entry), shared_clean(scenario, line)]
    if scenario.shared_cache is SharedCache.ALL_CORES:
        clean += [All(_nothing_dirty(line, each))]
        clean += [] if cpu is JUMPING else [_nothing_dirty(line, JUMPING.entry)]
    # Clean entries that it reaches on other CPUs may go at any time anyway.
    return all_of(*clean), tuple(cpu.entry(alias).becomes(ABSENT) for alias in line.aliases)


def _nothing_dirty(line: Line, entry: Callable[[Alias], Ref]) -> Expr:
    return all_of(*(entry(alias).none_of(DIRTY) for alias in line.aliases))

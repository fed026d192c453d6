# SPDX-License-Identifier: GPL-2.0-or-later
"""WBINVD: at which sites it is executed, and when it is complete.

It takes time: it begins, evictions go on in any order, and it is complete when nothing dirty
is left on that CPU, whose entries are then all invalid. It reaches its own CPU's caches only.
Reaching further would be an eviction at that moment, which may happen anyway.
"""

from __future__ import annotations

from staleline.model.cpus import ABSENT, DIRTY, Cpu
from staleline.model.form import FALSE, TRUE, Assign, Expr, Ref, all_of
from staleline.model.lines import Line
from staleline.model.scenario import Flush, ForeignLines, Scenario

__all__ = ["SEAMCALLED", "completes", "counts_seamcalls", "forgets", "will_flush"]

#: The per-CPU flag that a SEAMCALL sets; "yes" from the first one on.
SEAMCALLED = "seamcalled"


def counts_seamcalls(scenario: Scenario) -> bool:
    """Does a site's flush depend on whether its CPU made a SEAMCALL?"""
    sites = (scenario.flush_secondary, scenario.flush_jumping)
    return scenario.foreign is ForeignLines.TDX and Flush.AFTER_SEAMCALL in sites


def will_flush(scenario: Scenario, flush: Flush, seamcalled: Ref) -> Expr:
    """The site executes WBINVD on the CPU that this flag belongs to."""
    if flush is Flush.AFTER_SEAMCALL and counts_seamcalls(scenario):
        return seamcalled.one_of("yes")
    return TRUE if flush is Flush.ALWAYS else FALSE


def forgets(scenario: Scenario, cpu: Cpu) -> tuple[Assign, ...]:
    """Past its site nobody asks for a CPU's SEAMCALLs again: fewer states to tell apart."""
    return (cpu.ref(SEAMCALLED).becomes("no"),) if counts_seamcalls(scenario) else ()


def completes(line: Line, cpu: Cpu) -> tuple[Expr, tuple[Assign, ...]]:
    """When a WBINVD that runs on this CPU is complete, and what it leaves."""
    clean = all_of(*(cpu.entry(alias).none_of(DIRTY) for alias in line.aliases))
    return clean, tuple(cpu.entry(alias).becomes(ABSENT) for alias in line.aliases)

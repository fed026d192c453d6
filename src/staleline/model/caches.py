# SPDX-License-Identifier: GPL-2.0-or-later
"""What caches do by themselves: evict any entry, at any time, in any order.

An entry needs no value of its own: within one alias caches are coherent, so an entry holds
the next kernel's newest data if and only if its alias is the one that data was written
through (`NEWEST`), and is stale otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from staleline.model.cpus import ABSENT, CLEAN, CPUS, DIRTY, DRAM, NEWEST, Cpu, Data
from staleline.model.form import Action
from staleline.model.lines import Alias, Line
from staleline.model.texts import line_phrase

__all__ = ["evictions"]

_ANY_ORDER = (
    "commit 10df8607bf1a (v6.18): dirty lines of different aliases may be written back in any order"
)


def evictions(line: Line) -> Iterator[Action]:
    """Drop a clean entry, or write a dirty one back, on any CPU."""
    for cpu in CPUS:
        for alias in line.aliases:
            yield _drop(line, cpu, alias)
            yield _write_back_newest(line, cpu, alias)
            yield _write_back_stale(line, cpu, alias)
            yield _write_back_destroys(line, cpu, alias)


def _drop(line: Line, cpu: Cpu, alias: Alias) -> Action:
    return Action(
        name=f"{cpu.actor}_drops_{alias}",
        actor=cpu.actor,
        guard=cpu.entry(alias).one_of(CLEAN),
        assigns=(cpu.entry(alias).becomes(ABSENT),),
        function="cache",
        source=_ANY_ORDER,
        sentence=f"The cache of {{cpu}} drops its clean {line.name_of(alias)} entry of "
        f"{line_phrase(line)}.",
    )


def _write_back_newest(line: Line, cpu: Cpu, alias: Alias) -> Action:
    return Action(
        name=f"{cpu.actor}_writes_back_newest_{alias}",
        actor=cpu.actor,
        guard=cpu.entry(alias).one_of(DIRTY) & NEWEST.one_of(alias),
        assigns=(cpu.entry(alias).becomes(ABSENT), DRAM.becomes(Data.NEWEST)),
        function="cache",
        source=_ANY_ORDER,
        sentence=f"The cache of {{cpu}} writes back its dirty {line.name_of(alias)} entry of "
        f"{line_phrase(line)}: DRAM now holds the next kernel's data.",
    )


def _write_back_stale(line: Line, cpu: Cpu, alias: Alias) -> Action:
    return Action(
        name=f"{cpu.actor}_writes_back_{alias}",
        actor=cpu.actor,
        guard=cpu.entry(alias).one_of(DIRTY) & NEWEST.none_of(alias) & DRAM.none_of(Data.NEWEST),
        assigns=(cpu.entry(alias).becomes(ABSENT),),
        function="cache",
        source=_ANY_ORDER,
        sentence=f"The cache of {{cpu}} writes back its dirty {line.name_of(alias)} entry of "
        f"{line_phrase(line)}; DRAM held nothing newer.",
    )


def _write_back_destroys(line: Line, cpu: Cpu, alias: Alias) -> Action:
    return Action(
        name=f"{cpu.actor}_destroys_through_{alias}",
        actor=cpu.actor,
        guard=cpu.entry(alias).one_of(DIRTY) & NEWEST.none_of(alias) & DRAM.one_of(Data.NEWEST),
        assigns=(cpu.entry(alias).becomes(ABSENT), DRAM.becomes(Data.LOST)),
        function="cache",
        source="commit 10df8607bf1a (v6.18): a later write-back silently corrupts memory",
        sentence=f"The cache of {{cpu}} writes back its stale dirty {line.name_of(alias)} entry "
        f"of {line_phrase(line)}: it destroys what the next kernel wrote there through the "
        f"{{newest}} alias.",
    )

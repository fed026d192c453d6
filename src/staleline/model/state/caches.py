# SPDX-License-Identifier: GPL-2.0-or-later
"""What caches do by themselves: write back any dirty entry, at any time, in any order.

An entry needs no value of its own: within one alias caches are coherent, so an entry holds
the next kernel's newest data if and only if its alias is the one that data was written
through (`NEWEST`), and is stale otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from staleline.model.form import Action, Actor, Ref
from staleline.model.scenario import Scenario, SharedCache
from staleline.model.state.cpus import ABSENT, CPUS, DIRTY, DRAM, NEWEST, Data
from staleline.model.state.lines import Alias, Line
from staleline.model.state.sharedcache import shared_entry
from staleline.model.state.texts import line_phrase

__all__ = ["evictions"]

_ANY_ORDER = (
    "commit 10df8607bf1a (v6.18): dirty lines of different aliases may be written back in any order"
)


@dataclass(frozen=True, slots=True)
class _Cache:
    """One CPU's private caches, or the shared one.

    Attributes:
        name: Begins the names of its actions.
        phrase: Begins their sentences.
        actor: Whose actions they are.
        entry: What it holds of an alias.
    """

    name: str
    phrase: str
    actor: Actor
    entry: Callable[[Alias], Ref]


def evictions(scenario: Scenario, line: Line) -> tuple[Action, ...]:
    """Write a dirty entry back and drop it, in any cache."""
    return _evictions(line, is_shared=scenario.shared_cache is not SharedCache.NONE)


@cache
def _evictions(line: Line, *, is_shared: bool) -> tuple[Action, ...]:
    return tuple(_of_caches(line, is_shared=is_shared))


def _of_caches(line: Line, *, is_shared: bool) -> Iterator[Action]:
    # To drop a clean entry is not among them: to fill it was optional, so that the state without
    # it is reached by not filling it.
    for cpu in CPUS:
        private = _Cache(str(cpu.actor), "The cache of {cpu}", cpu.actor, cpu.entry)
        for alias in line.aliases:
            yield from _write_backs(line, private, alias)
            if is_shared:
                yield _to_shared(line, private, alias)
    if is_shared:
        shared = _Cache("shared_cache", "The shared cache", Actor.JUMPING, shared_entry)
        for alias in line.aliases:
            yield from _write_backs(line, shared, alias)


def _write_backs(line: Line, cache: _Cache, alias: Alias) -> Iterator[Action]:
    # The next kernel writes through these two, so only their entries can be the newest.
    if alias in (line.early, line.next):
        yield _write_back_newest(line, cache, alias)
    yield _write_back_stale(line, cache, alias)
    yield _write_back_destroys(line, cache, alias)


def _to_shared(line: Line, cache: _Cache, alias: Alias) -> Action:
    return Action(
        name=f"{cache.name}_hands_down_{alias}",
        actor=cache.actor,
        guard=cache.entry(alias).one_of(DIRTY),
        assigns=(cache.entry(alias).becomes(ABSENT), shared_entry(alias).becomes(DIRTY)),
        function="cache",
        source=_ANY_ORDER,
        sentence=f"{cache.phrase} evicts its dirty {line.name_of(alias)} entry of "
        f"{line_phrase(line)} to the shared cache.",
    )


def _write_back_newest(line: Line, cache: _Cache, alias: Alias) -> Action:
    return Action(
        name=f"{cache.name}_writes_back_newest_{alias}",
        actor=cache.actor,
        guard=cache.entry(alias).one_of(DIRTY) & NEWEST.one_of(alias),
        assigns=(cache.entry(alias).becomes(ABSENT), DRAM.becomes(Data.NEWEST)),
        function="cache",
        source=_ANY_ORDER,
        sentence=f"{cache.phrase} writes back its dirty {line.name_of(alias)} entry of "
        f"{line_phrase(line)}: DRAM now holds the next kernel's data.",
    )


def _write_back_stale(line: Line, cache: _Cache, alias: Alias) -> Action:
    stale = cache.entry(alias).one_of(DIRTY) & NEWEST.none_of(alias)
    return Action(
        name=f"{cache.name}_writes_back_{alias}",
        actor=cache.actor,
        guard=stale & DRAM.none_of(Data.NEWEST),
        assigns=(cache.entry(alias).becomes(ABSENT),),
        function="cache",
        source=_ANY_ORDER,
        sentence=f"{cache.phrase} writes back its dirty {line.name_of(alias)} entry of "
        f"{line_phrase(line)}; DRAM held nothing newer.",
    )


def _write_back_destroys(line: Line, cache: _Cache, alias: Alias) -> Action:
    stale = cache.entry(alias).one_of(DIRTY) & NEWEST.none_of(alias)
    return Action(
        name=f"{cache.name}_destroys_through_{alias}",
        actor=cache.actor,
        guard=stale & DRAM.one_of(Data.NEWEST),
        assigns=(cache.entry(alias).becomes(ABSENT), DRAM.becomes(Data.LOST)),
        function="cache",
        source="commit 10df8607bf1a (v6.18): a later write-back silently corrupts memory",
        sentence=f"{cache.phrase} writes back its stale dirty {line.name_of(alias)} entry "
        f"of {line_phrase(line)}: it destroys what the next kernel wrote there through the "
        f"{{newest}} alias.",
    )

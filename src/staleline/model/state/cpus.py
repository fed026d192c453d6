# SPDX-License-Identifier: GPL-2.0-or-later
"""The two kinds of CPU, so that what both do is written once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from staleline.model.form import Actor, Assign, Expr, Ref, Whose
from staleline.model.scenario import Flush, ForeignLines, Scenario
from staleline.model.state.lines import Alias, Line

__all__ = [
    "ABSENT",
    "CLEAN",
    "CPUS",
    "DIRTY",
    "DRAM",
    "JUMPING",
    "NEWEST",
    "SEAMCALLED",
    "SECONDARY",
    "VARIANT_VALUES",
    "Cpu",
    "Data",
    "JumpingAt",
    "SecondaryAt",
    "counts_seamcalls",
    "each",
    "first_write",
    "next_write",
]

#: What a cache holds of one alias of the line.
ABSENT, CLEAN, DIRTY = "absent", "clean", "dirty"

#: The alias through which the next kernel's newest data was written; "none" before that.
NEWEST = Ref(Whose.GLOBAL, "newest")
#: What DRAM holds of the line, one of `Data`.
DRAM = Ref(Whose.GLOBAL, "dram")


class Data(StrEnum):
    """What DRAM holds: anything older, the next kernel's newest data, or its ruins."""

    OLD = "old"
    NEWEST = "newest"
    LOST = "lost"
    # What was newest, in DRAM or in a cache, was lost to a store of the old kernel.
    OVERWRITTEN = "overwritten"


class JumpingAt(StrEnum):
    """Where the jumping CPU is."""

    RUNNING = "running"
    WAITING = "waiting"
    RELOCATING = "relocating"
    FLUSHING = "flushing"
    COPYING = "copying"
    EARLY = "early"
    ENC_FLUSHING = "enc_flushing"
    ENCRYPTING = "encrypting"
    NEXT = "next"
    FAULTED = "faulted"
    MTRR_FLUSHING = "mtrr_flushing"


class SecondaryAt(StrEnum):
    """Where a secondary is."""

    RUNNING = "running"
    STOPPING = "stopping"
    REPORTED = "reported"
    FLUSHING = "flushing"
    HALTED = "halted"
    STARTING = "starting"
    NEXT = "next"
    FAULTED = "faulted"
    REENTERED = "reentered"
    REFLUSHING = "reflushing"
    OFFLINING = "offlining"
    OFFLINE = "offline"


#: Values that only some variants of the world have; others do without them in their domains.
VARIANT_VALUES = frozenset(
    {
        Data.OVERWRITTEN,
        JumpingAt.MTRR_FLUSHING,
        SecondaryAt.REENTERED,
        SecondaryAt.REFLUSHING,
        SecondaryAt.OFFLINING,
        SecondaryAt.OFFLINE,
    }
)


@dataclass(frozen=True, slots=True)
class Cpu:
    """The jumping CPU, or the acting secondary."""

    actor: Actor

    def ref(self, name: str) -> Ref:
        """This CPU's copy of a per-CPU variable."""
        return _copy(name, jumping=self.actor is Actor.JUMPING)

    def at(self, *places: JumpingAt | SecondaryAt) -> Expr:
        """This CPU is at one of these places."""
        return self.ref("pc").one_of(*places)

    def goes(self, place: JumpingAt | SecondaryAt) -> Assign:
        """This CPU goes there."""
        return self.ref("pc").becomes(place)

    def entry(self, alias: Alias) -> Ref:
        """What this CPU's cache holds of one alias."""
        return self.ref(alias)

    def invalidates_others(self, alias: Alias) -> tuple[Assign, ...]:
        """Every other CPU loses its entry of this alias, as coherency within it demands."""
        others = (Ref(Whose.EACH, alias).becomes(ABSENT),)
        if self.actor is Actor.JUMPING:
            return others
        return (*others, JUMPING.entry(alias).becomes(ABSENT))

    def dirties(self, alias: Alias) -> tuple[Assign, ...]:
        """A store of the old kernel: the line is dirty here, and in no other cache."""
        return (self.entry(alias).becomes(DIRTY), *self.invalidates_others(alias))


@cache
def _copy(name: str, *, jumping: bool) -> Ref:
    return Ref(Whose.GLOBAL, f"jumping_{name}") if jumping else Ref(Whose.OWN, name)


JUMPING = Cpu(Actor.JUMPING)
SECONDARY = Cpu(Actor.SECONDARY)
CPUS = (JUMPING, SECONDARY)


def each(name: str) -> Ref:
    """The variable of the secondary that a quantifier ranges over."""
    return Ref(Whose.EACH, name)


def first_write(cpu: Cpu, alias: Alias) -> tuple[Assign, ...]:
    """What the first store for the next kernel does: its newest data is in this entry only."""
    entry = cpu.entry(alias).becomes(DIRTY)
    return (NEWEST.becomes(alias), entry, *cpu.invalidates_others(alias))


def next_write(cpu: Cpu, alias: Alias) -> tuple[Assign, ...]:
    """What a later store does: DRAM, which may hold an earlier one, is out of date again."""
    return (DRAM.becomes(Data.OLD), *first_write(cpu, alias))


#: The per-CPU flag that a SEAMCALL sets; "yes" from the first one on.
SEAMCALLED = "seamcalled"


def counts_seamcalls(scenario: Scenario, line: Line) -> bool:
    """Does a flush that matters to this line depend on whether its CPU made a SEAMCALL?"""
    sites = (scenario.flush_secondary, scenario.flush_jumping)
    is_private = line.foreign and scenario.foreign is ForeignLines.TDX
    return is_private and Flush.AFTER_SEAMCALL in sites

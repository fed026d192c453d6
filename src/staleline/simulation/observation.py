# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run of the simulated machine has shown.

Observed is what one run on one simulated machine has shown: it is neither predicted nor measured
on hardware. See docs/machine.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from staleline.simulation.execution import EndedRun, Ending

__all__ = [
    "Chain",
    "CpuCache",
    "ExecutedFlush",
    "LineAccess",
    "Moment",
    "RunOutcome",
    "SeenRun",
    "seen_run",
]

_LAST_LINES: Final = 12
_CHAINS: Final = 100
_UP: Final = re.compile(r"^== up (\S+) online (\d+)$", re.MULTILINE)
_LEFT: Final = re.compile(r"^== (?:jump|crash) ", re.MULTILINE)
_WORKED: Final = "== worked "
#: The first kernel's own crash is none of the next one's faults.
_FAULT: Final = re.compile(
    r".*(?:Kernel panic(?! - not syncing: sysrq triggered crash)|general protection fault"
    r"|BUG: |Oops: |== files differ|triple fault).*"
)
_CANNOT_LOAD: Final = re.compile(r"^== (cannot load: .*)$", re.MULTILINE)
_CPUID: Final = re.compile(r"^   0x[0-9a-f]{8} 0x[0-9a-f]{2}: eax=.*$", re.MULTILINE)
#: A bound was reached, or the machine switched off by whoever did not tell.
_NO_END_OF_ITS_OWN: Final = (Ending.TIME, Ending.CONSOLE, Ending.POWERED_OFF)
#: Bochs' BIOS flushes, too, before it boots a kernel.
_FIRMWARE: Final = range(0xE0000, 0x100000)


class RunOutcome(StrEnum):
    """What a run has shown of a handover."""

    CLEAN = "clean"
    DESTROYED = "destroyed"
    RACE = "flush race"
    FAILED = "failed"
    NOT_OBSERVED = "not observed"


@dataclass(frozen=True, slots=True)
class LineAccess:
    """Who did something to a line.

    Attributes:
        cpu: Its number.
        kernel: 1 for the one that was booted, 2 for the next.
        mode: "kernel", "user", "legacy" or "device".
        rip: Where; of code that is mapped where it is, a physical address.
    """

    cpu: int
    kernel: int
    mode: str
    rip: int


@dataclass(frozen=True, slots=True)
class Chain:
    """How a line was destroyed, or what a load met: who stored, who stored again, who wrote back.

    Attributes:
        event: "destroyed", "load-destroyed", "fetch-destroyed", "stale-load" or
            "wrong-alias-load".
        line: Its physical address.
        alias: Of the entry that was written back, or of the load.
        dirtied: The store that the destroying entry held; None for a load.
        newest: The store that was destroyed, or that a load did not see.
        newest_alias: Its alias.
        by: Who wrote back, or loaded.
        cause: Why it was written back; "" for a load.
        times: How often this was seen of such places.
    """

    event: str
    line: int
    alias: str
    dirtied: LineAccess | None
    newest: LineAccess
    newest_alias: str
    by: LineAccess
    cause: str
    times: int


@dataclass(frozen=True, slots=True)
class ExecutedFlush:
    """One WBINVD, or the like, of a kernel.

    Attributes:
        instruction: "wbinvd", "wbnoinvd", "invd", or "skipped" where it was taken away.
        at: Who executed it.
        held: Lines its caches held.
        dirty: Of them, written back.
        destroyed: Lines that were destroyed by that.
        end: When it was done, in ticks of the machine.
    """

    instruction: str
    at: LineAccess
    held: int
    dirty: int
    destroyed: int
    end: int


@dataclass(frozen=True, slots=True)
class CpuCache:
    """What one CPU's cache holds.

    Attributes:
        cpu: Its number.
        state: What the CPU does.
        flushing: It executes a WBINVD that is not done.
        dirty: Dirty lines by alias.
        overtaken: Of them, those whose line has a newer store under the other alias.
    """

    cpu: int
    state: str
    flushing: bool
    dirty: Mapping[str, int]
    overtaken: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment on the way from one kernel to the next.

    Attributes:
        moment: "relocation", when the jumping CPU enters the copy of relocate_kernel, or
            "handover", when it jumps to the next kernel.
        cpu: The jumping CPU.
        lstar: Where that CPU's kernel has its entry of system calls.
        tick: When.
        caches: What each CPU's cache holds then.
    """

    moment: str
    cpu: int
    lstar: int
    tick: int
    caches: tuple[CpuCache, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRun:
    """What a run has shown.

    Attributes:
        ending: How the run ended.
        reason: The machine's last words, where it stopped itself.
        up: Kernels that reached their first process, in order.
        loaded: Whether the next kernel could be loaded; else why not.
        left: The first kernel said that it goes on to the next one.
        worked: Whether the last kernel did its work and switched the machine off, without a fault.
        fault: The first line of the console that tells of a fault; "" if none does.
        handovers: In order.
        flushes: WBINVDs of kernels: those of firmware are left out.
        races: Handovers while another CPU flushed, by that CPU.
        chains: The first of what was destroyed and of what met it.
        counts: The machine's counts; empty where it ended without.
        told_destroyed: Lines of which the machine told that they were destroyed when it happened,
            the first ones of each place.
        cpuid: What CPUID said, as ``cpuid -1 -r`` prints it.
        last_lines: Of the console.
        seconds: CPU time.
    """

    ending: Ending
    reason: str
    up: tuple[str, ...]
    loaded: str
    left: bool
    worked: bool
    fault: str
    handovers: tuple[Moment, ...]
    flushes: tuple[ExecutedFlush, ...]
    races: tuple[int, ...]
    chains: tuple[Chain, ...]
    counts: Mapping[str, Any]
    told_destroyed: int
    cpuid: str
    last_lines: tuple[str, ...]
    seconds: float

    @property
    def tells_cpuid(self) -> bool:
        """Whether the first kernel came so far as to tell it."""
        # The heading alone has one.
        return self.cpuid.count("\n") > 1

    @property
    def handover(self) -> Moment | None:
        """The jump to the next kernel; None where none was seen."""
        return next((each for each in self.handovers if each.moment == "handover"), None)

    @property
    def destroyed(self) -> int:
        """Lines that a stale write-back destroyed; at least these where there are no counts."""
        # A kernel that panics resets the machine, which then is stopped and counts no more.
        counted = sum(self.counts.get("destroyed", {}).values())
        return counted if self.counts else self.told_destroyed

    @property
    def outcome(self) -> RunOutcome:
        """In one word. What was not reached is never called clean."""
        # Asked first: what was seen to be destroyed was, however far the run came.
        if self.destroyed:
            return RunOutcome.DESTROYED
        if not self.counts or self.handover is None or not self.left:
            return RunOutcome.NOT_OBSERVED
        if self.races:
            return RunOutcome.RACE
        if self.worked:
            return RunOutcome.CLEAN
        return RunOutcome.NOT_OBSERVED if self._is_silent else RunOutcome.FAILED

    @property
    def not_observed_because(self) -> str:
        """Why there is no handover, for that outcome."""
        if not self.up:
            return f"the first kernel did not come up ({self.ending})"
        if self.loaded:
            return self.loaded
        if not self.left:
            return f"the first kernel did not come to load the next one ({self.ending})"
        if not self.counts:
            return "the machine ended without telling what its caches held"
        if self.handover is None:
            return f"the first kernel did not come to jump ({self.ending})"
        if self.ending is Ending.POWERED_OFF:
            return "the next kernel told nothing on the serial port"
        return f"the next kernel did not come to its end ({self.ending})"

    @property
    def _is_silent(self) -> bool:
        """Nothing tells whether the next kernel works: it may be slow, or its console another."""
        return not self.fault and self.ending in _NO_END_OF_ITS_OWN


def seen_run(ended: EndedRun) -> SeenRun:
    """What a run has shown."""
    summaries = list(ended.events("summary"))
    left = _LEFT.search(ended.console)
    after = ended.console[left.end() :] if left else ended.console
    fault = _FAULT.search(after)
    loaded = _CANNOT_LOAD.search(ended.console)
    return SeenRun(
        ending=ended.ending,
        reason=ended.reason,
        up=tuple(release for release, _ in _UP.findall(ended.console)),
        loaded=loaded[1] if loaded else "",
        left=left is not None,
        # init powers off behind these words (machine/guest/init.c), so one that hangs is not done.
        worked=_WORKED in after and not fault and ended.ending is Ending.POWERED_OFF,
        fault=fault[0].strip() if fault else "",
        handovers=tuple(_first_way(_handovers(ended))),
        flushes=tuple(_flushes(ended)),
        races=tuple(_races(ended)),
        chains=tuple(_chains(ended)),
        counts=summaries[-1] if summaries else {},
        told_destroyed=len({event["line"] for event in ended.events("destroyed")}),
        cpuid="".join(f"{row}\n" for row in ("CPU:", *_CPUID.findall(ended.console))),
        last_lines=tuple(ended.console.splitlines()[-_LAST_LINES:]),
        seconds=ended.seconds,
    )


def _handovers(ended: EndedRun) -> Iterator[Moment]:
    for event in ended.events("relocation", "handover"):
        caches = tuple(map(_cache, event["caches"]))
        lstar = int(event["lstar"], 16)
        yield Moment(event["event"], event["cpu"], lstar, event["tick"], caches)


def _races(ended: EndedRun) -> Iterator[int]:
    """CPUs that flush at the first jump."""
    jump = None
    for event in ended.events("handover", "flush-race"):
        if event["event"] == "handover":
            jump = event["tick"] if jump is None else jump
        elif event["at"] == "handover" and event["tick"] == jump:
            yield event["flushing"]


def _first_way(moments: Iterable[Moment]) -> Iterator[Moment]:
    """Until the first jump: starting CPUs of the next kernel run at low addresses, too."""
    for moment in moments:
        yield moment
        if moment.moment == "handover":
            return


def _cache(told: Mapping[str, Any]) -> CpuCache:
    return CpuCache(
        # A cache that CPUs share has no CPU's number.
        -1 if told["cpu"] is None else told["cpu"],
        told.get("state", "shared"),
        told.get("flushing", False),
        told["dirty"],
        told["overtaken"],
    )


def _flushes(ended: EndedRun) -> Iterator[ExecutedFlush]:
    for event in ended.events("flush"):
        rip = int(event["rip"], 16)
        if rip not in _FIRMWARE:
            at = LineAccess(event["cpu"], event["kernel"], "kernel", rip)
            counts = (event["held"], event["dirty"], event["destroyed"], event["end"])
            yield ExecutedFlush(event["instruction"], at, *counts)


def _chains(ended: EndedRun) -> Iterator[Chain]:
    kinds = ("destroyed", "load-destroyed", "fetch-destroyed", "stale-load", "wrong-alias-load")
    for event in islice(ended.events(*kinds), _CHAINS):
        destroyed = event["event"] == "destroyed"
        yield Chain(
            event=event["event"],
            line=int(event["line"], 16),
            alias=event["alias"],
            dirtied=_store(event["dirtied"]) if destroyed else None,
            newest=_store(event["newest"]),
            newest_alias=event["newest_alias"],
            by=_store(event["written"] if destroyed else event["load"]),
            cause=event["cause"] if destroyed else "",
            times=event["times"],
        )


def _store(told: Mapping[str, Any]) -> LineAccess:
    return LineAccess(told["cpu"], told["kernel"], told["mode"], int(told["rip"], 16))

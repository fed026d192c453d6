# SPDX-License-Identifier: GPL-2.0-or-later
"""Find out which of many changes make code decide otherwise, by few runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from staleline.kernel.rerun.changes import Change, Memory, bits_of, responsible, variation
from staleline.kernel.rerun.inputs import Flips, Register
from staleline.kernel.rerun.variation import Cell, Variation
from staleline.vocabulary import Site

__all__ = ["Dependency", "Search", "Tried"]

#: After so many findings in one search the rest is not looked for.
_MOST_FINDINGS: Final = 24
#: So many changes are told from the one that decides, without which the run would fail.
_MOST_SUPPORTS: Final = 4


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one variation.

    Attributes:
        changed: Sites that decide otherwise than without it.
        asked: Registers the hardware was asked for -> bits that were turned over.
        lost: Why some site is no longer known, or None.
        calls_unset: It is lost by a call through a pointer that is not set in the image.
    """

    changed: frozenset[Site]
    asked: Mapping[Register, int]
    lost: str | None = None
    calls_unset: bool = False


@dataclass(frozen=True, slots=True)
class Dependency:
    """A change that matters.

    Attributes:
        change: What was changed.
        sites: Sites that decide otherwise with it; empty if it made the run fail.
        lost: How the run failed, or None.
        calls_unset: By a call through a pointer that is not set in the image.
    """

    change: Change
    sites: frozenset[Site]
    lost: str | None = None
    calls_unset: bool = False


@dataclass(slots=True)
class Search:
    """Tries many changes at once; of those that matter, each is found and then left alone.

    Attributes:
        run: Runs one variation.
        findings: What was found so far.
        exhausted: There is more than can be told apart.
    """

    run: Callable[[Variation], Tried] = field(default=lambda _: Tried(frozenset(), {}))
    findings: list[Dependency] = field(default_factory=list)
    exhausted: bool = False
    _alone_memory: list[Cell] = field(default_factory=list)
    _alone_bits: set[tuple[int, bool, int, int]] = field(default_factory=set)

    def leave_alone(self, changes: Iterable[Change]) -> None:
        """Do not try these."""
        for change in changes:
            if isinstance(change, Memory):
                self._alone_memory.append(change.cell)
            else:
                self._alone_bits.add((*_plain(change.register), change.bit))

    def round(self, flips: Flips, memory: Sequence[Memory]) -> None:
        """Try these together, then without what was found, until it makes no difference."""
        while not self.exhausted:
            tried = self.run(self._together(flips, memory))
            if not tried.changed and tried.lost is None:
                return
            finding = self._find(tried, [*self._wanted(memory), *bits_of(tried.asked)])
            if finding is None or len(self.findings) >= _MOST_FINDINGS:
                self.exhausted = True
            else:
                self.findings.append(finding)
                self.leave_alone([finding.change])

    def _together(self, flips: Flips, memory: Sequence[Memory]) -> Variation:
        plain = variation(self._wanted(memory))
        return Variation(lambda register: flips(register) & ~self._kept(register), plain.memory)

    def _wanted(self, memory: Sequence[Memory]) -> list[Change]:
        alone = self._alone_memory
        return [
            change for change in memory if all(not _overlap(change.cell, cell) for cell in alone)
        ]

    def _kept(self, register: Register) -> int:
        plain = _plain(register)
        return sum(1 << bit for *alone, bit in self._alone_bits if tuple(alone) == plain)

    def _find(self, tried: Tried, changes: Sequence[Change]) -> Dependency | None:
        """One change that is responsible, with all sites it is responsible for."""
        site = min(tried.changed, default=None)

        def still(some: Sequence[Change]) -> bool:
            again = self.run(variation(some))
            return again.lost is not None if site is None else site in again.changed

        prefix = responsible(changes, still)
        for _ in range(_MOST_SUPPORTS):
            if site is None or prefix is None or self.run(variation(prefix[:-1])).lost is None:
                break
            # Without the last one the run fails, so another may decide: it comes before all.
            prefix = responsible([prefix[-1], *prefix[:-1]], still)
        if prefix is None:
            return None
        if site is None:
            # Together with those before it the run fails; alone it may decide.
            alone = self.run(variation(prefix[-1:]))
            lost = None if alone.changed else tried.lost
            return Dependency(prefix[-1], alone.changed, lost, alone.calls_unset)
        before, after = (self.run(variation(some)).changed for some in (prefix[:-1], prefix))
        return Dependency(prefix[-1], after - before)


def _plain(register: Register) -> tuple[int, bool, int]:
    """A register in whichever sub-leaf."""
    return register.number, register.subleaf is None, register.index


def _overlap(one: Cell, other: Cell) -> bool:
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]

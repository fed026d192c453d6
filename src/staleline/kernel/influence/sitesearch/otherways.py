# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in which a site goes another way at a conditional jump."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final

from staleline.kernel.emulator.execution.end import RunLimits
from staleline.kernel.influence.beyond import turned_beyond
from staleline.kernel.influence.sitesearch.arms import arms_of
from staleline.kernel.rerun.changes import Memory, variation

if TYPE_CHECKING:
    from staleline.kernel.influence.guardinputs import FollowedTraces
    from staleline.kernel.influence.inflow import Arms
    from staleline.kernel.influence.sitesearch.trials import Trials
    from staleline.kernel.influence.turns import Turn
    from staleline.kernel.rerun.detour import Detour
    from staleline.kernel.rerun.reruns import Booted, Reruns, SiteRun
    from staleline.kernel.rerun.trace import ExecutedInstruction
    from staleline.vocabulary import Site

__all__ = ["OtherWays"]

#: Of one conditional jump that is executed more often than that, the first and the last.
_MOST_DETOURS: Final = 8
#: What a way may take until it meets the one that is gone, against all of that: at least so many
#: instructions, and never longer. A wait for another CPU has no end.
_LONGER: Final = 2
_LEAST_STEPS: Final = 1000
_TRACED_SECONDS: Final = 1.0


class OtherWays:
    """Those of one site on one machine.

    Attributes:
        through_null: What was changed in those of the last turn that ended where a pointer leads
            that is not set.

    Args:
        reruns: The image.
        site: The site.
        booted: The machine.
        traces: What flows where in runs.
        trials: What the site does with something changed.
    """

    def __init__(
        self, reruns: Reruns, site: Site, booted: Booted, traces: FollowedTraces, trials: Trials
    ) -> None:
        self._reruns, self._site, self._booted = reruns, site, booted
        self._traces, self._trials = traces, trials
        self._asking: dict[tuple[Memory, ...], frozenset[int]] = {}
        self.through_null: list[tuple[Memory, ...] | Detour] = []

    def run(self, turn: Turn, executed: Container[int], endless: set[Hashable]) -> SiteRun | None:
        """A run in which the site does otherwise; one that ends, if there is any."""
        astray = unmodelled = None
        self.through_null.clear()
        for run in chain(
            self._turned_runs(turn, endless), self._runs_beyond(turn, executed, endless)
        ):
            if run.decision.astray:
                astray = run
            elif run.decision.unmodelled:
                unmodelled = run
            else:
                return run
        return astray or unmodelled

    def _turned_runs(self, turn: Turn, endless: set[Hashable]) -> Iterator[SiteRun]:
        """Those that do otherwise where it turns."""
        failed = False
        for other in turn.others:
            run = self._limited((other,), endless, partial(self._trials.run, variation([other])))
            if run is not None and run.differs(self._trials.base):
                yield run
            failed = failed or run is None or run.decision.flushes is None
        # Turned each time a loop may have no end, where turned a single time it goes elsewhere.
        if not failed or len(turn.detours) < 2:
            return
        for detour in _spread(turn.detours):
            run = self._detoured(detour, endless)
            if run is not None and run.differs(self._trials.base):
                yield run

    def _runs_beyond(
        self, turn: Turn, executed: Container[int], endless: set[Hashable]
    ) -> Iterator[SiteRun]:
        """With conditions that are asked only where the jump is turned."""
        if not turn.detours or not endless.isdisjoint((one,) for one in turn.others):
            return
        for changes in self._beyond(turn, executed):
            run = self._limited(changes, endless, partial(self._trials.run, variation(changes)))
            if run is not None and run.differs(self._trials.base) and self._asks_last(changes):
                yield run

    def _beyond(self, turn: Turn, executed: Container[int]) -> Iterator[tuple[Memory, ...]]:
        first, turned = turn.detours[0], next(iter(turn.others))
        # Where the code is linked, as `executed` has it.
        other_way = first.target - first.address + turn.address
        return turned_beyond(self._reruns.memory.read, turned, other_way, executed)

    def arms(
        self,
        steps: Sequence[ExecutedInstruction],
        turns: Iterable[Turn],
        executed: Container[int],
        endless: Container[Hashable],
    ) -> Mapping[int, Sequence[Arms]]:
        """Step -> what it and the other way leave otherwise, of conditional jumps.

        Args:
            steps: What is executed.
            turns: Of which.
            executed: Addresses of it, as they are linked.
            endless: Changes that lead to no end.
        """
        limits = RunLimits(_LONGER * len(steps) + _LEAST_STEPS, _TRACED_SECONDS)
        arms: dict[int, list[Arms]] = {}
        for turn in turns:
            for detour in _spread(turn.detours):
                index = turn.indices[detour.visits]
                ways = self._ways(turn, detour, executed, endless)
                with self._reruns.traces_within(limits):
                    found = [arms_of(steps, index, others) for others in ways]
                arms.setdefault(index, []).extend(filter(None, found))
        return arms

    def _ways(
        self, turn: Turn, detour: Detour, executed: Container[int], endless: Container[Hashable]
    ) -> Iterator[Sequence[ExecutedInstruction]]:
        """What is executed where one jump goes the other way once, and with those behind it."""
        turned = next(iter(turn.others))
        ends = (turned,) not in endless
        if not detour.visits and ends:
            way = self._reruns.traced_site(self._site, self._booted, variation([turned]))
            yield way
            yield from self._ways_beyond(turn, executed, endless, way)
        # Of a jump that is executed once it is the same.
        if detour not in endless and (len(turn.detours) > 1 or not ends):
            yield self._reruns.traced_detour(self._site, self._booted, detour)

    def _ways_beyond(
        self,
        turn: Turn,
        executed: Container[int],
        endless: Container[Hashable],
        way: Sequence[ExecutedInstruction],
    ) -> Iterator[Sequence[ExecutedInstruction]]:
        """With jumps behind it as well, of those that it comes to."""
        come_by = {self._reruns.places.linked(step.address) for step in way}
        for changes in self._beyond(turn, executed):
            if changes not in endless and changes[-1].cell[0] in come_by:
                yield self._reruns.traced_site(self._site, self._booted, variation(changes))

    def steps_of(self, changes: tuple[Memory, ...]) -> Sequence[ExecutedInstruction]:
        """What such a way executes; nothing if the last condition is one of a constant."""
        if len(changes) > 1 and not self._asks_last(changes):
            return ()
        return self._reruns.traced_site(self._site, self._booted, variation(changes))

    def _asks_last(self, changes: Sequence[Memory]) -> bool:
        """Does an input decide the last jump, where the others are turned, and no constant?"""
        *others, last = changes
        turned = tuple(others)
        if turned not in self._asking:
            self._asking[turned] = frozenset(self._asking_jumps(turned))
        return last.cell[0] in self._asking[turned]

    def _asking_jumps(self, changes: Sequence[Memory]) -> Iterator[int]:
        """The conditional jumps on the way that an input decides."""
        steps = self._reruns.traced_site(self._site, self._booted, variation(changes))
        for step, flow in zip(steps, self._traces.flows(steps), strict=True):
            if step.conditional and flow:
                yield self._reruns.places.linked(step.address)

    def _detoured(self, detour: Detour, endless: set[Hashable]) -> SiteRun | None:
        return self._limited(
            detour, endless, partial(self._reruns.detoured_run, self._site, self._booted, detour)
        )

    def _limited(
        self,
        change: tuple[Memory, ...] | Detour,
        endless: set[Hashable],
        run: Callable[[], SiteRun],
    ) -> SiteRun | None:
        """A run, but for one that is known to have no end."""
        if change in endless:
            return None
        # Such a run takes its whole budget, and would again on every row.
        before, null_uses = self._reruns.endless_runs, self._reruns.null_uses
        done = run()
        if self._reruns.endless_runs > before:
            endless.add(change)
        if self._reruns.null_uses != null_uses:
            self.through_null.append(change)
        return done


def _spread(detours: Sequence[Detour]) -> Sequence[Detour]:
    """All of them, or the first and the last."""
    half = _MOST_DETOURS // 2
    return detours if len(detours) <= _MOST_DETOURS else (*detours[:half], *detours[-half:])

# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on one handover: what the kernel does against what the model requires."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import compress

from staleline.check.answer import Answer, is_safe
from staleline.check.requirements import Requirements
from staleline.check.runs.trace import Counterexample
from staleline.kernel.boot.decision import Store
from staleline.model.scenario import Flush, Scenario
from staleline.model.state.lines import Role
from staleline.verdict.handover.answers import answer_to
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.kernels import Behaviour
from staleline.verdict.handover.offline import what_is_left
from staleline.verdict.handover.reasons import Unneeded, why_safe, why_unneeded
from staleline.verdict.handover.required import is_known_safe, known_property, requirements
from staleline.verdict.handover.unknown import Unknown
from staleline.vocabulary import Path, Site, Verdict

__all__ = ["Judgement", "judge", "judged_once"]

#: Judgements of cases that differ, kept for the machines of a fleet, which share most of theirs.
_KEPT = 16_384


_JUMPED_FOR_IT = Unknown(
    "a hypervisor jumps into the next kernel, or is replaced by it, and what that hypervisor "
    "flushes was not looked at",
    "hypervisor-jumps",
)
_ISOLATED = Unknown(
    "Hyper-V keeps this guest's memory private and hides by which means, so nothing is known of "
    "its aliases, nor of what its WBINVD does",
    "unknown-guest-aliases",
)


@dataclass(frozen=True, eq=False)
class Judgement:
    """The verdict on one handover; what stands beside it is worked out when asked for.

    Two are the same only if they are one, as cases that are alike share theirs (`judged_once`).

    Attributes:
        case: The handover.
        verdict: Safe, at risk, or unknown.
    """

    case: Case
    verdict: Verdict

    @cached_property
    def answer(self) -> Answer | None:
        """The model checker's answer; None where several were possible."""
        if self.verdict is Verdict.UNKNOWN:
            return None
        return answer_to(self._shown, self.case.roles)

    @property
    def _shown(self) -> Scenario:
        """The first is of the plainest way, in which no offline CPU wakes: its run is shown."""
        return next(filter(self.case.is_looked_at, self.case.scenarios()))

    @property
    def counterexample(self) -> Counterexample | None:
        """The shortest interleaving that breaks it, for an at-risk verdict."""
        return None if self.answer is None else self.answer.counterexample

    @cached_property
    def broken(self) -> str | None:
        """The property that it breaks, for an at-risk verdict."""
        # Its name alone needs no run, and of what is safe none is to be searched to say so.
        if self.verdict is not Verdict.AT_RISK:
            return None
        known = known_property(self._shown, self.case.roles)
        return known or answer_to(self._shown, self.case.roles).property

    @cached_property
    def scenarios(self) -> tuple[Scenario, ...]:
        """What the model checker was asked, or would have been."""
        return tuple(self.case.scenarios())

    @cached_property
    def flushes(self) -> Mapping[Site, bool | None]:
        """Per site: is WBINVD executed? None where that was not established."""
        flushes = {site: _executed(self.case.flush(site)) for site in self.case.sites}
        if not self.case.stops_secondaries:
            # Whatever the rule says there: CPUs that nobody stops never come to it.
            flushes[self.case.path.secondaries_site] = False
        return flushes

    @cached_property
    def _required(self) -> Requirements:
        """What any kernel would have to flush here; what this one does is not looked at."""
        # So the ways in which the case's unknowns may turn out share it, and the first will do.
        looked_at = filter(self.case.is_looked_at, self.scenarios)
        return requirements(next(looked_at, self.scenarios[0]), self.case.roles)

    @cached_property
    def attainable(self) -> bool:
        """Can flushes at these sites make the handover safe at all?"""
        return self._required.attainable

    @cached_property
    def needed(self) -> Mapping[Site, bool | None]:
        """Per site: does every safe choice of flushes include it? None if there is none."""
        required = self._required
        known = required.attainable and self._is_modelled
        return {site: site in required.needed if known else None for site in self.case.sites}

    @property
    def _is_modelled(self) -> bool:
        machine = self.case.machine
        outside = not machine.jumped_by_kernel or machine.isolated
        return not outside and not self.case.uses_borrowed_memory

    @cached_property
    def minimal(self) -> tuple[tuple[Site, ...], ...]:
        """The minimal sets of flushes that make it safe; empty if no set does."""
        sets = sorted(self._required.minimal, key=sorted)
        return tuple(tuple(sorted(sites)) for sites in sets)

    @cached_property
    def unneeded(self) -> Mapping[Site, Unneeded]:
        """Sites whose WBINVD no stale line required, with the reason."""
        if not self._is_modelled:
            return {}
        executed = [site for site, flushes in self.flushes.items() if flushes]
        return {
            site: why_unneeded(self.case, site)
            for site in executed
            if site in self._required.unneeded
        }

    @cached_property
    def because(self) -> str:
        """For a safe handover, why it is, as a clause; else empty."""
        if self.verdict is not Verdict.SAFE:
            return ""
        return why_safe(self.case, self._required.needed)

    @cached_property
    def faults(self) -> tuple[Site, ...]:
        """Sites whose WBINVD traps on this machine."""
        if not self.case.machine.guest.wbinvd_faults:
            return ()
        return tuple(site for site, flushes in self.flushes.items() if flushes)

    @property
    def left_behind(self) -> Mapping[Site, tuple[Store, ...]]:
        """Per site, what is stored after its flush and left dirty; sites without such are out."""
        left = {site: self.case.left_behind(site) for site in self.case.sites}
        return {site: stores for site, stores in left.items() if stores}

    @cached_property
    def unknown(self) -> tuple[Unknown, ...]:
        """What could not be established, where that leaves the verdict open."""
        if self.verdict is not Verdict.UNKNOWN:
            return ()
        # These two first: with either the model was not asked, so nothing below left it open.
        if not self.case.machine.jumped_by_kernel:
            return (_JUMPED_FOR_IT,)
        if self.case.machine.isolated:
            return (_ISOLATED,)
        borrowed = self.case.behaviour.crash_kernel_borrows
        if self.case.uses_borrowed_memory and borrowed is not None:
            return (borrowed,)
        if len(self.case.offline) > 1 and not self.case.behaviour.unknown:
            return (_may_be_dirty(self.case),)
        open_parts = self.case.behaviour.open.get(self.case.path)
        reasons = open_parts or _reasons(self.case.behaviour, self.case.path)
        return tuple(
            reason if isinstance(reason, Unknown) else Unknown(reason, "image-not-read")
            for reason in reasons
        )


def judge(case: Case) -> Judgement:
    """Check every way in which the case's unknowns may turn out.

    Where all ways agree, what is unknown did not matter.
    """
    # What a hypervisor does that jumps instead of the kernel is not in the kernel's image, and not
    # in the model.
    if not case.can_be_asked:
        return Judgement(case, Verdict.UNKNOWN)
    # Who stops nobody has no stop mask, for instance: in such a way no line of that role is harmed.
    scenarios = tuple(case.scenarios())
    ways = list(map(case.is_looked_at, scenarios))
    safe = {_is_safe(scenario, case.roles) for scenario in compress(scenarios, ways)}
    if safe == {True}:
        # What is safe without such lines may not be with them; what is at risk stays so.
        return Judgement(case, Verdict.SAFE if case.is_modelled else Verdict.UNKNOWN)
    return Judgement(case, Verdict.AT_RISK if safe == {False} and all(ways) else Verdict.UNKNOWN)


@lru_cache(_KEPT)
def _is_safe(scenario: Scenario, roles: frozenset[Role] | None) -> bool:
    """Most handovers that fit little evidence are never shown, and only a shown one is proved."""
    known = is_known_safe(scenario, roles)
    return is_safe(scenario, roles) if known is None else known


def judged_once(case: Case) -> Judgement:
    """The judgement of the first case of this process that was alike in its circumstances."""
    return _judged(_Alike(case.circumstances, case))


@dataclass(frozen=True, slots=True)
class _Alike:
    """A case, equal to all that are judged alike."""

    circumstances: tuple[Hashable, ...]
    case: Case = field(compare=False)


@lru_cache(_KEPT)
def _judged(alike: _Alike) -> Judgement:
    return judge(alike.case)


def _may_be_dirty(case: Case) -> Unknown:
    left = what_is_left(case.behaviour.offline, mwait=case.machine.mwait)
    return Unknown(
        "whether a CPU that is offline sleeps with clean caches, which depends on its idle driver: "
        f"{'; '.join(left)}. Bring all online before "
        "(echo 1 > /sys/devices/system/cpu/cpuN/online)",
        "offline-cpus-dirty",
    )


def _executed(flush: Flush | None) -> bool | None:
    return None if flush is None else flush is not Flush.NEVER


def _reasons(behaviour: Behaviour, path: Path) -> Sequence[str]:
    # What stopped a reading says more than which sites it left open.
    if behaviour.unknown:
        return behaviour.unknown
    unread = [
        f"{site}: not read from this image"
        for site in (path.secondaries_site, Site.RELOCATE_KERNEL)
        if behaviour.flush(site, path) is None
    ]
    return unread or ("the order of the stop protocol could not be read from this image",)

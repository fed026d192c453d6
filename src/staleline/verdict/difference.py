# SPDX-License-Identifier: GPL-2.0-or-later
"""Two policies side by side: where their rules differ, and which handovers change for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from staleline.policy.expression import Expression
from staleline.policy.policy import Policy
from staleline.policy.smt import condition_where
from staleline.verdict.handover import Judgement
from staleline.verdict.platforms import PlatformHandover, check_policy
from staleline.vocabulary import ReportOrder, Site, Verdict

__all__ = ["ChangedHandover", "Difference", "SiteDifference", "compare"]


@dataclass(frozen=True, slots=True)
class SiteDifference:
    """Where the new rule executes a WBINVD that the old one does not, and the reverse."""

    site: Site
    added: Expression | None
    dropped: Expression | None


@dataclass(frozen=True, slots=True)
class ChangedHandover:
    """A handover that the two policies treat differently."""

    old: PlatformHandover
    new: PlatformHandover

    @property
    def worse(self) -> bool:
        """Safe before, not safe now."""
        return self.old.judgement.verdict is Verdict.SAFE and not self._safe_now

    @property
    def better(self) -> bool:
        """Safe now, not safe before."""
        return self.old.judgement.verdict is not Verdict.SAFE and self._safe_now

    @property
    def _safe_now(self) -> bool:
        return self.new.judgement.verdict is Verdict.SAFE


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that changes from one policy to another."""

    old: Policy
    new: Policy
    sites: tuple[SiteDifference, ...]
    reported: tuple[ReportOrder, ReportOrder]
    handovers: tuple[ChangedHandover, ...]


def compare(old: Policy, new: Policy) -> Difference:
    """Compare two policies: rules by z3, handovers by the model."""
    return Difference(
        old=old,
        new=new,
        sites=tuple(_site(old, new, site) for site in Site),
        reported=(old.reported, new.reported),
        handovers=tuple(_changed(old, new)),
    )


def _site(old: Policy, new: Policy, site: Site) -> SiteDifference:
    before, after = old.condition(site), new.condition(site)
    return SiteDifference(site, condition_where(after, before), condition_where(before, after))


def _changed(old: Policy, new: Policy) -> Iterator[ChangedHandover]:
    for before, after in zip(check_policy(old), check_policy(new), strict=True):
        if _treatment(before.judgement) != _treatment(after.judgement):
            yield ChangedHandover(before, after)


def _treatment(judgement: Judgement) -> tuple[object, ...]:
    return (
        judgement.verdict,
        tuple(judgement.flushes.items()),
        judgement.faults,
        None if judgement.answer is None else judgement.answer.property,
    )

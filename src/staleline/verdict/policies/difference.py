# SPDX-License-Identifier: GPL-2.0-or-later
"""Two policies side by side: where their rules differ, and which handovers change for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from staleline.policy.axioms import encrypts
from staleline.policy.expression import AtomIs, Expression
from staleline.policy.literals import substitute
from staleline.policy.policy import Policy
from staleline.policy.smt import condition_where, equivalent
from staleline.verdict.handover.judgement import Judgement
from staleline.verdict.handover.kernels import Kernel
from staleline.verdict.policies.platforms import PlatformHandover, check_kernel
from staleline.vocabulary import ReportOrder, Site, Verdict

__all__ = [
    "ChangedHandover",
    "ConditionDifference",
    "Difference",
    "FlushCount",
    "RuledKernel",
    "SiteDifference",
    "compare_kernels",
]


@dataclass(frozen=True, slots=True)
class ConditionDifference:
    """Where the new condition holds and the old one does not, and the reverse; None if nowhere."""

    added: Expression | None
    dropped: Expression | None


@dataclass(frozen=True, slots=True)
class SiteDifference(ConditionDifference):
    """Where the new rule executes a WBINVD that the old one does not, and the reverse."""

    site: Site


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
    def encrypts(self) -> tuple[bool, bool]:
        """Does the old kernel of the handover encrypt its memory, by either rule?"""
        return self.old.old, self.new.old

    def flushes(self, site: Site) -> tuple[bool | None, bool | None]:
        """Is WBINVD executed at the site, before and now? None if it is not on this path."""
        return self.old.judgement.flushes.get(site), self.new.judgement.flushes.get(site)

    @property
    def _safe_now(self) -> bool:
        return self.new.judgement.verdict is Verdict.SAFE


@dataclass(frozen=True, slots=True)
class FlushCount:
    """WBINVDs of one site over all handovers of all platform classes, per CPU that passes it.

    Attributes:
        site: The site.
        more: Handovers in which the new kernel executes one more.
        unneeded: How many of these no stale line requires.
        less: Handovers in which it executes one less.
    """

    site: Site
    more: int
    unneeded: int
    less: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that changes from one policy to another.

    Attributes:
        old: The old one.
        new: The new one.
        sites: Of each site.
        crash: Likewise in a crash, of those at which either decides otherwise then.
        encrypts: Where a kernel encrypts its own memory.
        reported: Order of the stop protocol, before and now.
        handovers: Those that are treated differently.
    """

    old: Policy
    new: Policy
    sites: tuple[SiteDifference, ...]
    crash: tuple[SiteDifference, ...]
    encrypts: ConditionDifference
    reported: tuple[ReportOrder, ReportOrder]
    handovers: tuple[ChangedHandover, ...]

    @property
    def costs(self) -> tuple[FlushCount, ...]:
        """Of each site at which the number of WBINVDs changes."""
        costs = (_cost(self.handovers, site) for site in Site)
        return tuple(cost for cost in costs if cost.more or cost.less)


class RuledKernel(Kernel, Protocol):
    """A kernel whose rule is known on every machine: that of a policy, or one read."""

    @property
    def policy(self) -> Policy:
        """The rule."""


def compare_kernels(old: RuledKernel, new: RuledKernel) -> Difference:
    """Compare two kernels: rules by z3, handovers by the model."""
    before, after = old.policy, new.policy
    return Difference(
        old=before,
        new=after,
        sites=tuple(_site(before, after, site) for site in Site),
        crash=tuple(
            _in_a_crash(before, after, site)
            for site in Site
            if site in {*before.in_a_crash, *after.in_a_crash}
        ),
        encrypts=ConditionDifference(*_where(_encrypts(before), _encrypts(after))),
        reported=(before.reported, after.reported),
        handovers=tuple(_changed(old, new)),
    )


def _site(old: Policy, new: Policy, site: Site) -> SiteDifference:
    conditions = (_meant(policy, policy.condition(site)) for policy in (old, new))
    return SiteDifference(*_where(*conditions), site)


def _in_a_crash(old: Policy, new: Policy, site: Site) -> SiteDifference:
    conditions = (
        _meant(policy, policy.in_a_crash.get(site) or policy.condition(site))
        for policy in (old, new)
    )
    return SiteDifference(*_where(*conditions), site)


def _where(before: Expression, after: Expression) -> tuple[Expression | None, Expression | None]:
    """Where the latter holds alone, and where the former does."""
    return condition_where(after, before), condition_where(before, after)


def _encrypts(policy: Policy) -> Expression:
    return encrypts() if policy.encrypts is None else policy.encrypts


def _meant(policy: Policy, condition: Expression) -> Expression:
    """With what `sme_active` is to this kernel, where that is not what it is to others."""
    own = policy.encrypts
    # By the same words two rules would pass for one that flush on different machines.
    if own is None or equivalent(own, encrypts()):
        return condition
    return substitute(condition, {AtomIs("sme_active"): own})


def _changed(old: Kernel, new: Kernel) -> Iterator[ChangedHandover]:
    # Strict: rules do not decide which handovers there are, so both kernels have the same.
    for before, after in zip(check_kernel(old), check_kernel(new), strict=True):
        if _treatment(before.judgement) != _treatment(after.judgement):
            yield ChangedHandover(before, after)


def _cost(handovers: tuple[ChangedHandover, ...], site: Site) -> FlushCount:
    more = [handover for handover in handovers if handover.flushes(site) == (False, True)]
    less = [handover for handover in handovers if handover.flushes(site) == (True, False)]
    unneeded = [handover for handover in more if site in handover.new.judgement.unneeded]
    return FlushCount(site, len(more), len(unneeded), len(less))


def _treatment(judgement: Judgement) -> tuple[object, ...]:
    # Not by its run: another shortest interleaving of the same violation is no change.
    return (
        judgement.case.old_encrypts,
        judgement.verdict,
        tuple(judgement.flushes.items()),
        judgement.faults,
        None if judgement.answer is None else judgement.answer.property,
    )

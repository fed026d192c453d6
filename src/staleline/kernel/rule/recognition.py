# SPDX-License-Identifier: GPL-2.0-or-later
"""Which catalogue policies an image carries: as a whole, and site by site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from staleline.kernel.rule.grid import Grid
from staleline.policy.catalogue import catalogue, series_of
from staleline.policy.expression import AtomIs, Expression, Negation, atoms_read
from staleline.policy.literals import conjunction_of, substitute
from staleline.policy.policy import Policy
from staleline.policy.smt import equivalent
from staleline.vocabulary import ReportOrder, Site

__all__ = ["Recognition"]

#: Sites without which there is nothing to recognise.
_DECISIVE = frozenset({Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL})
_SME_ACTIVE = AtomIs("sme_active")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognition:
    """Compares one image's rules with the catalogue.

    Attributes:
        grid: The combinations that the image was run with.
        encrypts: When the image encrypts its memory as a host; None if unknown.
        lacks: Atoms that cannot come about under this kernel.
        release: Kernel release of the image, for the order only.
    """

    grid: Grid
    encrypts: Expression | None
    lacks: tuple[str, ...]
    release: str | None

    def at_site(self, site: Site, condition: Expression | None) -> tuple[str, ...]:
        """Policies with this rule at this site, most fitting first."""
        if condition is None:
            return ()
        return self._ordered(
            # Distributions backport one site and not another, so a site's rule is recognised by
            # itself.
            policy
            for policy in catalogue().values()
            if self._same(policy, site, condition)
        )

    def whole(
        self, alike: Mapping[Site, tuple[str, ...]], reported: ReportOrder | None, *, flushes: bool
    ) -> tuple[str, ...]:
        """Policies with the same rule at every site, and the order of the stop protocol.

        Args:
            alike: Per site that was read, what `at_site` found.
            reported: The image's order; None if unknown or if there is none.
            flushes: Some machine flushes at ``stop_this_cpu``, so that there is an order.
        """
        if not alike.keys() >= _DECISIVE:
            return ()
        everywhere = set.intersection(*map(set, alike.values()))
        return self._ordered(
            catalogue()[name]
            for name in everywhere
            if not flushes or catalogue()[name].reported is reported
        )

    def _same(self, policy: Policy, site: Site, condition: Expression) -> bool:
        theirs = policy.condition(site)
        # A policy's sme_active stands for what this image makes of it, so that a kernel without
        # memory encryption, which never flushes at relocate_kernel, is recognised too.
        if _SME_ACTIVE.name in atoms_read(theirs):
            if self.encrypts is None:
                return False
            theirs = substitute(theirs, {_SME_ACTIVE: self.encrypts})
        # The cells are machines: cheaper than a proof for the many policies that differ.
        differs = self.grid.where(condition) != self.grid.where(theirs)
        if (
            differs & self.grid.possible & self.grid.where(conjunction_of(self._assumptions))
        ).any():
            return False
        # Equal is what decides alike on every machine that can exist.
        return equivalent(condition, theirs, *self._assumptions)

    @property
    def _assumptions(self) -> tuple[Expression, ...]:
        # What the image has no code for (SEAMCALLs, SNP guests) does not happen under it.
        return tuple(Negation(AtomIs(name)) for name in self.lacks)

    def _ordered(self, policies: Iterable[Policy]) -> tuple[str, ...]:
        """Those of the image's series first, proposals last, else by age."""
        # linux-6.18 and linux-7.2 have the same predicates and differ in flushes elsewhere (at TDX
        # shutdown and when a CPU goes offline), so an image may equal several.
        series = series_of(self.release or "")
        names = list(catalogue())

        def fit(policy: Policy) -> tuple[bool, bool, int]:
            elsewhere = series is None or not policy.carried_by(series)
            return (elsewhere, policy.proposed is not None, names.index(policy.name))

        return tuple(policy.name for policy in sorted(policies, key=fit))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Which flushes a handover needs, whatever the kernel at hand executes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

from staleline.check.answer import is_safe
from staleline.model.scenario import Flush, ReportOrder, Scenario
from staleline.model.state.lines import Role
from staleline.vocabulary import Site

__all__ = ["Requirements", "required_flushes"]


@dataclass(frozen=True, slots=True)
class Requirements:
    """The flushes of a handover's two sites that make it safe.

    Attributes:
        safe: Every set of flushing sites with which the handover is safe.
        minimal: Those of which no proper subset is safe; empty if no set is.
        needed: Sites in every minimal set; empty if no set is safe.
        unneeded: Sites in no minimal set; empty if no set is safe.
    """

    safe: tuple[frozenset[Site], ...]
    minimal: tuple[frozenset[Site], ...]
    needed: frozenset[Site]
    unneeded: frozenset[Site]

    @classmethod
    def of(cls, sites: tuple[Site, Site], safe: tuple[frozenset[Site], ...]) -> Self:
        """What follows from the sets of flushing sites with which it is safe."""
        minimal = tuple(one for one in safe if not any(other < one for other in safe))
        everywhere = frozenset(sites) if minimal else frozenset[Site]()
        return cls(
            safe=safe,
            minimal=minimal,
            needed=everywhere.intersection(*minimal),
            unneeded=everywhere.difference(*minimal),
        )

    @property
    def attainable(self) -> bool:
        """Can flushes at these sites make the handover safe at all?"""
        return bool(self.safe)


def required_flushes(scenario: Scenario, roles: Collection[Role] | None = None) -> Requirements:
    """Check the four ways in which the two sites can flush, otherwise as in the scenario.

    Args:
        scenario: The handover; its own flushes and report order are not looked at.
        roles: Only for lines of these roles; None for all.

    Raises:
        ModelError: The state limit was reached.
    """
    sites = (scenario.path.secondaries_site, Site.RELOCATE_KERNEL)
    safe = tuple(
        frozenset(site for site, flush in zip(sites, flushes, strict=True) if flush is Flush.ALWAYS)
        for flushes in product((Flush.NEVER, Flush.ALWAYS), repeat=2)
        # The report order is right there: a flush that comes after the report is a defect of the
        # protocol, and says nothing about which lines are stale.
        if _is_safe(scenario, roles, *flushes)
    )
    return Requirements.of(sites, safe)


def _is_safe(
    scenario: Scenario, roles: Collection[Role] | None, secondary: Flush, jumping: Flush
) -> bool:
    variant = replace(
        scenario,
        flush_secondary=secondary,
        flush_jumping=jumping,
        report=ReportOrder.AFTER_FLUSH,
    )
    return is_safe(variant, roles)

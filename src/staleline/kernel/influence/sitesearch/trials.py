# SPDX-License-Identifier: GPL-2.0-or-later
"""What a site does with something changed, against what it does as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from staleline.kernel.influence.search import Tried

if TYPE_CHECKING:
    from staleline.kernel.rerun.reruns import Booted, Reruns, SiteRun
    from staleline.kernel.rerun.variation import Variation
    from staleline.vocabulary import Site

__all__ = ["Trials"]


class Trials:
    """Those of one site on one machine.

    Attributes:
        base: What it does as it is.

    Args:
        reruns: The image.
        site: The site.
        booted: The machine.
    """

    def __init__(self, reruns: Reruns, site: Site, booted: Booted) -> None:
        self._run, self._site = reruns.runs_from(booted), site
        self.base = self._run(site)

    def run(self, variation: Variation) -> SiteRun:
        """What it does then."""
        return self._run(self._site, variation)

    def tried(self, variation: Variation) -> Tried:
        """Is that something else, and what keeps it from being known?"""
        run = self.run(variation)
        astray = run.decision.astray
        changed = astray or run.decision.answer not in (None, self.base.decision.answer)
        lost = None if astray else run.decision.unknown
        return Tried(frozenset({self._site}) if changed else frozenset(), run.asked, lost)

    def changes(self, variation: Variation) -> bool:
        """Is that something else?"""
        return bool(self.tried(variation).changed)

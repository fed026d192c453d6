# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image does for combinations of raw facts: one row for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from staleline.kernel.boot.decision import SiteDecision, Store
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.vocabulary import ReportOrder, Site

__all__ = ["TruthRow", "TruthTable"]


@dataclass(frozen=True, slots=True)
class TruthRow:
    """One combination and what the image's own code did.

    Attributes:
        facts: The combination.
        sites: Per site, WBINVD or not, or why that is unknown.
        encrypts: ``sme_me_mask`` set and no SEV, as the kernel derived it.
        reported: Order of the stop protocol as executed; None where nothing was flushed.
        crash_relocate_kernel: The jumping CPU's site in a crash; None if not read.
    """

    facts: RawFacts
    sites: Mapping[Site, SiteDecision]
    encrypts: bool | None
    reported: ReportOrder | None
    crash_relocate_kernel: SiteDecision | None = None

    def stores(self, site: Site) -> tuple[Store, ...]:
        """What the site stores after its flush."""
        return self.sites[site].stores if site in self.sites else ()

    def left_behind(self, site: Site) -> tuple[Store, ...]:
        """Those of them that leave a dirty line behind."""
        return self.sites[site].left_behind if site in self.sites else ()


@dataclass(frozen=True, slots=True)
class TruthTable:
    """All rows, in the order of the enumeration.

    Attributes:
        rows: Every combination once.
        runs: How many combinations had to be run; the others met the same answers.
    """

    rows: tuple[TruthRow, ...]
    runs: int

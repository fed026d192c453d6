# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image does for every combination of raw facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from staleline.kernel.decision import SiteDecision
from staleline.kernel.rawfacts import RawFacts
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
    """

    facts: RawFacts
    sites: Mapping[Site, SiteDecision]
    encrypts: bool | None
    reported: ReportOrder | None


@dataclass(frozen=True, slots=True)
class TruthTable:
    """All rows, in the order of the enumeration.

    Attributes:
        rows: Every combination once.
        runs: How many combinations had to be run; the others met the same answers.
    """

    rows: tuple[TruthRow, ...]
    runs: int

# SPDX-License-Identifier: GPL-2.0-or-later
"""What is predicted of what is run on a simulated machine, and where a run contradicts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from staleline.simulation.observation import RunOutcome, SeenRun
from staleline.vocabulary import Site, Verdict

__all__ = ["NOTHING_PREDICTED", "Prediction", "disagreement"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is predicted of one handover.

    Attributes:
        verdict: Safe, at risk or unknown.
        because: Why it is safe, as a clause; else what breaks.
        broken: The property that breaks, e.g. "P1"; None if none does.
        role: Of the line with which it breaks; None if none does.
        flushes: Per site, whether WBINVD is executed.
        unknown: What is missing for a verdict.
    """

    verdict: Verdict
    because: str
    broken: str | None
    role: str | None
    flushes: Mapping[Site, bool | None]
    unknown: tuple[str, ...]


#: Of a machine that did not tell what it is.
NOTHING_PREDICTED: Final = Prediction(
    Verdict.UNKNOWN, "", None, None, {}, ("the machine did not come so far",)
)


def disagreement(prediction: Prediction, seen: SeenRun) -> str | None:
    """Where one run contradicts what was predicted; None where it does not."""
    # Safe says that nothing is ever destroyed, and that nobody flushes any more at the handover. At
    # risk says only that it can be: one run that shows nothing contradicts it not.
    if prediction.verdict is Verdict.SAFE:
        if seen.destroyed:
            return f"safe is predicted, {seen.destroyed:,} lines were destroyed"
        if seen.races:
            return "safe is predicted, the jumping CPU handed over while another one flushed"
        if seen.outcome is RunOutcome.FAILED:
            return "safe is predicted, the next kernel did not work"
    return None

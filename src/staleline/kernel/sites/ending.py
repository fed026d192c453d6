# SPDX-License-Identifier: GPL-2.0-or-later
"""What the end of a run shows of the site that was run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.emulator.execution.end import EndKind

if TYPE_CHECKING:
    from collections.abc import Container

    from staleline.kernel.emulator.emulator import Emulator
    from staleline.kernel.emulator.execution.end import End
    from staleline.kernel.image.image import KernelImage

__all__ = ["CrashRun", "is_in", "site_decision"]


@dataclass(frozen=True, slots=True)
class CrashRun:
    """What a secondary and the crashing CPU did."""

    crash_nmi_callback: SiteDecision
    relocate_kernel: SiteDecision


def is_in(image: KernelImage, end: End, functions: Container[str]) -> bool:
    """Did the run end in one of these functions, or in a part split off from it?"""
    return image.symbols.function_of(end.address) in functions


def site_decision(
    emulator: Emulator, end: End, wanted: EndKind | None, *, flushes: int
) -> SiteDecision:
    """What a run shows of a site: an answer only if the run ended as it must (`wanted`)."""
    # A CPU that halts for good does so with interrupts disabled: else the next one makes it go on.
    is_open = end.kind is EndKind.HALTED and end.interruptible
    if end.kind is wanted and not is_open:
        return SiteDecision(flushes > 0)
    what = emulator.told(end)
    what += ", with interrupts enabled" * is_open
    executed = f" (after {flushes} WBINVD)" if flushes else ""
    reason = f"the run did not reach its end{executed}: {what}"
    return SiteDecision(None, reason, unmodelled=end.unmodelled)

# SPDX-License-Identifier: GPL-2.0-or-later
"""One handover, as the model sees it: no Linux versions, no CPUID, only what can happen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Flush", "ForeignLines", "Path", "ReportOrder", "Scenario"]


class Path(StrEnum):
    """How the old kernel hands over."""

    KEXEC = "kexec"
    CRASH = "crash"


class Flush(StrEnum):
    """When a site executes WBINVD."""

    NEVER = "never"
    ALWAYS = "always"
    AFTER_SEAMCALL = "after-seamcall"


class ForeignLines(StrEnum):
    """Lines under a key that neither kernel maps memory with."""

    NONE = "none"
    SEV_GUESTS = "sev-guests"
    TDX = "tdx"


class ReportOrder(StrEnum):
    """Is a secondary reported stopped before or after its flush?"""

    BEFORE_FLUSH = "before-flush"
    AFTER_FLUSH = "after-flush"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One old kernel, one next kernel, one path, one kind of hardware.

    Attributes:
        path: kexec, or the crash path, where secondaries are halted by NMI.
        old_encrypts: The old kernel maps its memory with the C-bit.
        next_encrypts: The next kernel will (after encrypting itself in place).
        incoherent: Caches do not keep the aliases of a line coherent.
        foreign: Who may leave dirty lines under a third key, if anybody.
        flush_secondary: The secondaries' site on this path.
        flush_jumping: The jumping CPU's site.
        report: Order of the stop protocol.
        flush_faults: WBINVD traps here (TDX and SEV-ES guests).
        secondaries: Number of secondaries, at least 0.
    """

    path: Path
    old_encrypts: bool
    next_encrypts: bool
    incoherent: bool
    foreign: ForeignLines = ForeignLines.NONE
    flush_secondary: Flush
    flush_jumping: Flush
    report: ReportOrder = ReportOrder.AFTER_FLUSH
    flush_faults: bool = False
    secondaries: int = 2

# SPDX-License-Identifier: GPL-2.0-or-later
"""One handover, as the model sees it: no Linux versions, no CPUID, only what can happen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from staleline.errors import ModelError
from staleline.vocabulary import Path, ReportOrder

__all__ = ["Flush", "ForeignLines", "Path", "ReportOrder", "Scenario"]


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
        flush_faults: WBINVD traps here (TDX and SEV-ES guests). Such a guest keeps the
            encryption that its hypervisor gave it: both kernels encrypt, or neither.
        secondaries: Number of secondaries, at least 0.
        flush_at_load: Crash path only: an encrypting kernel that loads the crash kernel
            converts each page to decrypted, which flushes its C-bit lines out of every
            CPU's caches, and converts segments back, which flushes what it wrote (7.3
            kernel/kexec_core.c:457,899,922; arch/x86/kernel/machine_kexec_64.c:686;
            arch/x86/mm/pat/set_memory.c:2461). Has no effect when the old kernel does not
            encrypt: then nothing is converted.
        load_settled: Crash path only: assume that everything written at load has left the
            caches by the time of the crash. Nothing enforces that; time makes it likely.
        clears_stop_mask: The jumping CPU writes the stop mask after every secondary has
            reported, which takes the line away from their caches (7.3
            arch/x86/kernel/smp.c:238-242).

    Raises:
        ModelError: For a combination that no machine shows.
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
    flush_at_load: bool = True
    load_settled: bool = False
    clears_stop_mask: bool = True

    def __post_init__(self) -> None:
        if self.secondaries < 0:
            _reject(f"{self.secondaries} secondaries", "give 0 or more")
        if self.flush_faults and self.old_encrypts != self.next_encrypts:
            _reject(
                "a guest in which WBINVD faults, whose kernels differ in encryption",
                "give old_encrypts and next_encrypts the same value",
            )
        if self.foreign is ForeignLines.TDX and not self.incoherent:
            _reject("coherent TDX KeyIDs", "set incoherent: no Intel CPU keeps KeyIDs coherent")


def _reject(what: str, do: str) -> None:
    raise ModelError(what, where="scenario", do=do)

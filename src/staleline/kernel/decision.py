# SPDX-License-Identifier: GPL-2.0-or-later
"""The question put to a kernel image and its answer.

The question is raw: CPUID, MSRs and the command line, because what a kernel derives
from them differs between eras. The answer says per site whether WBINVD was executed,
or why that could not be established; it never says whether it was needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from staleline.evidence.registers import CpuidTable
from staleline.vocabulary import ReportOrder

__all__ = ["Decision", "RawMachine", "SiteDecision"]


@dataclass(frozen=True, slots=True)
class RawMachine:
    """What the kernel's code can ask of a machine.

    Attributes:
        jumping: CPUID of the jumping CPU (the boot CPU).
        secondary: CPUID of the secondary whose ``stop_this_cpu()`` is run.
        msr: MSR number -> value; an MSR not listed reads as 0.
        mem_encrypt: True for ``mem_encrypt=on`` on the command line.
    """

    jumping: CpuidTable
    secondary: CpuidTable
    msr: Mapping[int, int] = field(default_factory=dict)
    mem_encrypt: bool = False


@dataclass(frozen=True, slots=True)
class SiteDecision:
    """One site: True or False if it was run to its end, else None and the reason."""

    flushes: bool | None
    unknown: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What one kernel does on one machine.

    Attributes:
        stop_this_cpu: The secondaries' site.
        relocate_kernel: The jumping CPU's site.
        reported_stopped: Order of the stop protocol as executed; None where
            ``stop_this_cpu`` does not flush or could not be run.
        sme_active: ``sme_me_mask`` is set and SEV is not active, as the kernel derived it.
        traps: Instructions the machine had to answer: CPUID and privileged ones.
        leaves_read: CPUID leaves the kernel executed.
        msrs_read: MSRs it read, whether listed in `RawMachine.msr` or not.
    """

    stop_this_cpu: SiteDecision
    relocate_kernel: SiteDecision
    reported_stopped: ReportOrder | None
    sme_active: bool | None
    traps: int = 0
    leaves_read: frozenset[int] = frozenset()
    msrs_read: frozenset[int] = frozenset()

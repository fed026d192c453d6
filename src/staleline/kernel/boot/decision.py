# SPDX-License-Identifier: GPL-2.0-or-later
"""The question put to a kernel image and its answer.

The question is raw: CPUID, MSRs and the command line, because what a kernel derives
from them differs between eras. The answer says per site whether WBINVD was executed,
or why that could not be established; it never says whether it was needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, TypeVar

from staleline.evidence.registers import CpuidTable
from staleline.vocabulary import ReportOrder, Through

__all__ = [
    "Decision",
    "Fate",
    "OfflineWay",
    "RawMachine",
    "SiteDecision",
    "Store",
    "common_decision",
]

_T = TypeVar("_T")

# What an SNP host's firmware has set up: SmmLock, without which Linux hides SEV, and where
# the RMP table lies (linux 7.3.4 arch/x86/kernel/cpu/amd.c early_detect_mem_encrypt(),
# arch/x86/virt/svm/sev.c:607). Any 512 MiB will do.
_HWCR: Final = 0xC001_0015
_SMM_LOCK: Final = 1 << 0
_RMP_BASE: Final = 0xC001_0132
_RMP_END: Final = 0xC001_0133
_RMP_TABLE: Final = (0x10_0000_0000, 0x10_1FFF_FFFF)


@dataclass(frozen=True, slots=True)
class RawMachine:
    """What the kernel's code can ask of a machine.

    Attributes:
        jumping: CPUID of the jumping CPU (the boot CPU).
        secondary: CPUID of the secondary whose ``stop_this_cpu()`` is run.
        msr: MSR number -> value; an MSR not listed reads as 0.
        mem_encrypt: True for ``mem_encrypt=on`` on the command line.
        snp_host: Firmware has set up an RMP table, and the IOMMU driver keeps SNP. What else
            CC_ATTR_HOST_SEV_SNP depends on (CPUID, SYSCFG) the kernel sees for itself.
        seamcalled: Both CPUs made a SEAMCALL since their last WBINVD, if the kernel can.
        preserve_context: The image to jump into was loaded for a kexec jump.
    """

    jumping: CpuidTable
    secondary: CpuidTable
    msr: Mapping[int, int] = field(default_factory=dict)
    mem_encrypt: bool = False
    snp_host: bool = False
    seamcalled: bool = False
    preserve_context: bool = False

    @property
    def firmware_msr(self) -> Mapping[int, int]:
        """`msr`, with what `snp_host` says of the RMP table."""
        if not self.snp_host:
            return {**self.msr, _RMP_BASE: 0, _RMP_END: 0}
        start, end = _RMP_TABLE
        locked = self.msr.get(_HWCR, 0) | _SMM_LOCK
        return {_RMP_BASE: start, _RMP_END: end, **self.msr, _HWCR: locked}


class Fate(StrEnum):
    """What becomes of a line that a CPU stores to after its last WBINVD.

    `LEFT_BEHIND`: it stays dirty in that CPU's cache when its site ends. `TAKEN_BACK`: the
    jumping CPU stores to the line once all others have reported, which takes it out of their
    caches (linux 7.3.4 arch/x86/kernel/smp.c:238). `JUMPS_ALONG`: it is plain and on the jumping
    CPU, which goes on as the next kernel: that uses the line plain until ``__enc_copy`` has
    executed WBINVD on the same CPU (mm/mem_encrypt_boot.S:124). `OUTSIDE_RESERVATION`: the next
    kernel is a crash kernel, which writes its reservation only.
    """

    LEFT_BEHIND = "left-behind"
    TAKEN_BACK = "taken-back"
    JUMPS_ALONG = "jumps-along"
    OUTSIDE_RESERVATION = "outside-reservation"


@dataclass(frozen=True, slots=True, order=True)
class Store:
    """Stores of one instruction to adjacent bytes, after the last WBINVD of its CPU.

    Attributes:
        address: Of the first byte, as the code addressed it.
        physical: The same byte's physical address, as the image is linked or the emulated RAM
            is laid out.
        size: In bytes.
        through: The alias of the mapping.
        line: What lies there, e.g. ``cpus_stop_mask+0x8`` or ``the stack of CPU 1``.
        code: Function and offset of the instruction.
        fate: What becomes of it.
    """

    address: int
    physical: int
    size: int
    through: Through
    line: str
    code: str
    fate: Fate = Fate.LEFT_BEHIND


@dataclass(frozen=True, slots=True)
class SiteDecision:
    """One site: True or False if it was run to its end, else None and the reason.

    Attributes:
        flushes: Was WBINVD executed?
        unknown: Why that is not known.
        stores: What its CPU stored after its last WBINVD until the site's end, sorted; empty if
            there was none, where everything stays dirty.
        astray: Others take its CPU for stopped, and it ended elsewhere, or not at all.
        unmodelled: It came to what the emulated machine does not have, or to rest elsewhere: how
            it goes on is not known, but it does.
    """

    flushes: bool | None
    unknown: str | None = None
    stores: tuple[Store, ...] = ()
    astray: bool = False
    unmodelled: bool = False

    @property
    def answer(self) -> tuple[bool, bool] | None:
        """Was WBINVD executed, and is anything left dirty behind it? None if not known."""
        return None if self.flushes is None else (self.flushes, bool(self.left_behind))

    @property
    def left_behind(self) -> tuple[Store, ...]:
        """Those of the stores whose lines are still dirty when the next kernel runs."""
        return tuple(store for store in self.stores if store.fate is Fate.LEFT_BEHIND)


@dataclass(frozen=True, slots=True)
class OfflineWay:
    """A way in which a CPU goes offline; which of them it is depends on its idle driver.

    Attributes:
        name: What it sleeps in, and by what.
        asleep: Did it flush, and what did it store behind that until it sleeps?
        woken: The same when a kexec has kicked it out of MWAIT, until it halts; None where it
            sleeps otherwise, or the kernel kicks nobody.
        by_mwait: It sleeps in MWAIT.
    """

    name: str
    asleep: SiteDecision
    woken: SiteDecision | None = None
    by_mwait: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What one kernel does on one machine.

    Attributes:
        stop_this_cpu: The secondaries' site.
        relocate_kernel: The jumping CPU's site.
        crash_nmi_callback: The secondaries' site in a crash.
        crash_relocate_kernel: The jumping CPU's site in a crash, after
            ``machine_crash_shutdown()``.
        reported_stopped: Order of the stop protocol as executed; None where
            ``stop_this_cpu`` does not flush or could not be run.
        sme_active: ``sme_me_mask`` is set and SEV is not active, as the kernel derived it.
        stops: A kexec stops the secondaries: it interrupts them, and they halt. None where that
            could not be followed.
        crash_stops: A crash does.
        traps: Instructions the machine had to answer: CPUID and privileged ones.
        leaves_read: CPUID leaves the kernel executed.
        msrs_read: MSRs it read, whether listed in `RawMachine.msr` or not.
    """

    stop_this_cpu: SiteDecision
    relocate_kernel: SiteDecision
    crash_nmi_callback: SiteDecision
    crash_relocate_kernel: SiteDecision
    reported_stopped: ReportOrder | None
    sme_active: bool | None
    stops: bool | None = True
    crash_stops: bool | None = True
    traps: int = 0
    leaves_read: frozenset[int] = frozenset()
    msrs_read: frozenset[int] = frozenset()


def common_decision(decisions: Sequence[Decision], why: str) -> Decision:
    """What several decisions agree on; a site of which they differ is unknown.

    Args:
        decisions: At least one.
        why: Why there are several.
    """
    first = decisions[0]
    if len(decisions) == 1:
        return first
    return replace(
        first,
        stop_this_cpu=_common_site([one.stop_this_cpu for one in decisions], why),
        relocate_kernel=_common_site([one.relocate_kernel for one in decisions], why),
        crash_nmi_callback=_common_site([one.crash_nmi_callback for one in decisions], why),
        crash_relocate_kernel=_common_site([one.crash_relocate_kernel for one in decisions], why),
        reported_stopped=_same([one.reported_stopped for one in decisions]),
        sme_active=_same([one.sme_active for one in decisions]),
        stops=_same([one.stops for one in decisions]),
        crash_stops=_same([one.crash_stops for one in decisions]),
        traps=sum(one.traps for one in decisions),
        leaves_read=frozenset().union(*(one.leaves_read for one in decisions)),
        msrs_read=frozenset().union(*(one.msrs_read for one in decisions)),
    )


def _common_site(sites: Sequence[SiteDecision], why: str) -> SiteDecision:
    alike = len({(site.flushes, site.left_behind) for site in sites}) == 1
    return sites[0] if alike else SiteDecision(None, why)


def _same(values: Sequence[_T]) -> _T | None:
    return values[0] if len(set(values)) == 1 else None

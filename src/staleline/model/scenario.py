# SPDX-License-Identifier: GPL-2.0-or-later
"""One handover, as the model sees it: no Linux versions, no CPUID, only what can happen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from staleline.errors import ModelError
from staleline.vocabulary import Path, ReportOrder

__all__ = [
    "Flush",
    "ForeignLines",
    "LeftBehind",
    "Offline",
    "Path",
    "ReportOrder",
    "Scenario",
    "SharedCache",
    "Stop",
]


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


class Stop(StrEnum):
    """How the other CPUs are stopped (7.3 arch/x86/kernel/smp.c:150 native_stop_other_cpus)."""

    # The jumping CPU waits until each has reported; who does not within a second gets an NMI
    # (smp.c:203,221).
    COMPLETE = "complete"
    # It waits for a while and goes on: a second in a crash (reboot.c:895), 10 ms after the NMI
    # where the caller does not ask to wait (smp.c:228; reboot and kexec do ask).
    GIVES_UP = "gives-up"
    # With reboot=force nobody is asked to stop, in a kexec neither (smp.c:155, 5.10 smp.c:152):
    # they go on with the old kernel.
    SKIPPED = "skipped"


class Offline(StrEnum):
    """Secondaries that were taken offline before the handover.

    Each executed WBINVD in `play_dead`, whatever the policy (7.3
    arch/x86/kernel/smpboot.c:1429,1498).
    """

    NONE = "none"
    # It has slept since.
    HALTED = "halted"
    # An NMI, an SMI or a store to the line it monitors wakes it now and then (smpboot.c:1436), and
    # its handler dirties lines again until the jumping CPU has left its wait.
    WOKEN = "woken"
    # Between its WBINVD and its sleep it stores to lines of its own (7.3
    # drivers/acpi/processor_idle.c:592).
    STORES = "stores"
    # It does not execute WBINVD, which no released kernel does.
    UNFLUSHED = "unflushed"


class LeftBehind(StrEnum):
    """Through which alias a CPU stores to a line after its flush, so that the line stays dirty.

    The stop mask, which the jumping CPU takes back, is not meant.
    """

    NONE = "none"
    # The old kernel's own.
    KERNEL = "kernel-alias"
    # Plain whether or not the old kernel encrypts, as decrypted pages are mapped.
    PLAIN = "plain-alias"
    BOTH = "both"

    @property
    def by_kernel_alias(self) -> bool:
        """Something is left through the old kernel's own alias."""
        return self in {LeftBehind.KERNEL, LeftBehind.BOTH}

    @property
    def by_plain_alias(self) -> bool:
        """Something is left through the plain alias."""
        return self in {LeftBehind.PLAIN, LeftBehind.BOTH}


class SharedCache(StrEnum):
    """A last-level cache that all CPUs share, and what WBINVD reaches beside it."""

    # Not modelled; WBINVD reaches the caches of its own CPU.
    NONE = "none"
    # Its own private caches and the shared one, which is all that CPUID 0x8000001D EDX[0] = 1
    # guarantees (every AMD Zen; 7.3 asm/cpuid/leaf_types.h:1901). Hardware may do as `ALL_CORES`
    # does at times. That adds no behaviour: it is the same as evictions on the other CPUs then.
    OWN_CORE = "own-core"
    # The private caches of all sharers too (CPUID 4 EDX[0] = 0; Intel TDX parts, where the sharers
    # are the package).
    ALL_CORES = "all-cores"


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
        guest: An encrypted guest in which WBINVD does not trap (SEV). It keeps its encryption
            likewise: nothing is encrypted in place, and the image is copied through its own alias.
        secondaries: Number of secondaries, at least 0.
        flush_at_load: Crash path only: an encrypting kernel that loads the crash kernel
            converts each page to decrypted and segments back, and flushes both times.
        load_settled: Crash path only: assume that everything written at load has left the
            caches by the time of the crash. Nothing enforces that; time makes it likely. What
            the crashing CPU writes is not meant.
        clears_stop_mask: The jumping CPU writes the stop mask after every secondary has
            reported, which takes the line away from their caches.
        stop: Whether the other CPUs are stopped, and waited for.
        late_nmi: A secondary that has reported takes the NMI that was meant for laggards. It
            enters `stop_this_cpu` again while the jumping CPU no longer waits for it.
        offline: Secondaries that were taken offline before.
        preserve_context: kexec jump: secondaries are taken offline instead of stopped, and the
            next kernel is confined to the image. The way back is not modelled.
        play_dead_settled: Assume that an offline CPU's WBINVD is complete by the time of the
            handover.
        shared_cache: Whether there is a shared cache, and what WBINVD reaches.
        work_area: Look also at the work area of the next kernel's in-place encryption. Its
            exposure is the next kernel's own; no flush of the old kernel can help.
        mtrr_flush: The next kernel executes WBINVD again where it programs MTRRs, before it
            hands out the work area as ordinary memory. Matters to the work area only.
        vmcoreinfo_decrypted: Crash path only: an encrypting kernel maps its copy of vmcoreinfo
            without the C-bit, as its page is in the direct mapping.
        left_by_secondary: Each secondary stores to other lines between its flush and its halt.
        left_by_jumping: The jumping CPU does, between its flush and the copy of the image.

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
    # 7.3 arch/x86/boot/startup/sme.c:490 sme_enable(); machine_kexec_64.c:255, the identity map.
    guest: bool = False
    secondaries: int = 2
    # Converted to decrypted, a page's C-bit lines are flushed out of every CPU's caches, converted
    # back, what was written (7.3 kernel/kexec_core.c:457,899,922;
    # arch/x86/kernel/machine_kexec_64.c:686; arch/x86/mm/pat/set_memory.c:2461). A kernel that does
    # not encrypt converts nothing.
    flush_at_load: bool = True
    load_settled: bool = False
    clears_stop_mask: bool = True  # 7.3 arch/x86/kernel/smp.c:238-242
    stop: Stop = Stop.COMPLETE
    # The race that the comment at 7.3 arch/x86/kernel/smp.c:184-189 leaves open.
    late_nmi: bool = False
    offline: Offline = Offline.NONE
    # 7.3 kernel/kexec_core.c:1181; all memory but the image's destination is preserved.
    preserve_context: bool = False
    # Nothing waits for it: the CPU reports itself dead before (7.3 arch/x86/kernel/smpboot.c:1412
    # against 1429, 5.10 smpboot.c:1662 against 1726).
    play_dead_settled: bool = True
    shared_cache: SharedCache = SharedCache.NONE
    work_area: bool = False
    # 7.3 arch/x86/kernel/cpu/cacheinfo.c:658, from setup.c:1051; 5.10
    # arch/x86/kernel/cpu/mtrr/generic.c:754, from setup.c:1018.
    mtrr_flush: bool = False
    # No released kernel does (7.3 kernel/crash_core.c:76 vmap() with PAGE_KERNEL).
    vmcoreinfo_decrypted: bool = False
    left_by_secondary: LeftBehind = LeftBehind.NONE
    left_by_jumping: LeftBehind = LeftBehind.NONE

    @property
    def plays_dead(self) -> bool:
        """Secondaries may go offline: before a kexec, or as the way to stop in a kexec jump."""
        return self.preserve_context or self.offline is not Offline.NONE

    @property
    def leaves_stragglers(self) -> bool:
        """Secondaries may still run the old kernel when the next one runs."""
        return self.stop is not Stop.COMPLETE

    @property
    def keeps_encryption(self) -> bool:
        """A guest, whose kernels cannot choose: all of its memory is private or shared."""
        return self.guest or self.flush_faults

    @property
    def encrypts_in_place(self) -> bool:
        """`__enc_copy` runs: on hosts only (boot/startup/sme.c: not when SEV is active)."""
        return self.next_encrypts and not self.keeps_encryption

    def __post_init__(self) -> None:
        if self.secondaries < 0:
            _reject(f"{self.secondaries} secondaries", "give 0 or more")
        if self.keeps_encryption and self.old_encrypts != self.next_encrypts:
            _reject(
                "a guest whose kernels differ in encryption",
                "give old_encrypts and next_encrypts the same value",
            )
        if self.foreign is ForeignLines.TDX and not self.incoherent:
            _reject("coherent TDX KeyIDs", "set incoherent: no Intel CPU keeps KeyIDs coherent")
        self._check_way_of_stopping()

    def _check_way_of_stopping(self) -> None:
        crash = self.path is Path.CRASH
        if crash and (self.late_nmi or self.preserve_context or self.stop is Stop.SKIPPED):
            _reject(
                "a crash with late_nmi, preserve_context or a skipped stop",
                "give path kexec: crash_nmi_callback runs once, and nothing skips it",
            )
        if self.preserve_context and (self.late_nmi or self.leaves_stragglers):
            _reject(
                "a kexec jump with late_nmi or another stop than a complete one",
                "leave them out: a kexec jump takes secondaries offline, it does not stop them",
            )
        if self.late_nmi and self.leaves_stragglers:
            _reject("late_nmi and stragglers", "give one of them, to see what it does by itself")
        if self.plays_dead and self.flush_faults:
            _reject(
                "offline CPUs in a guest in which WBINVD faults",
                "leave them out: such guests park CPUs without play_dead's WBINVD",
            )


def _reject(what: str, do: str) -> None:
    raise ModelError(what, where="scenario", do=do)

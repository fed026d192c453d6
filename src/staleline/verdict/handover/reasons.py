# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a handover is safe and why a flush is unneeded, in words a reader can check."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from enum import StrEnum

from staleline.verdict.handover.case import Case
from staleline.verdict.machines.machine import Guest, Machine
from staleline.vocabulary import Path, Site

__all__ = ["Unneeded", "UnneededEither", "in_all_worlds", "why_safe", "why_unneeded"]


class Unneeded(StrEnum):
    """Why no stale line required a WBINVD, as a clause."""

    IN_GUEST = "in a guest the caches are the hypervisor's to write back"
    NO_SECONDARY = "there is no other CPU"
    NO_ENCRYPTION = "no memory encryption in use here gives a line a second alias"
    COHERENT = "the hardware keeps the aliases of a line coherent (CPUID 0x8000001F EAX[10])"
    GUEST_COHERENT = (
        "the hardware of this guest's host keeps the private and the shared alias of its lines "
        "coherent"
    )
    FIRMWARE_OFF = (
        "firmware left memory encryption off (SYSCFG[23]=0), so the C-bit is not honoured"
    )
    TSME = (
        "neither kernel uses the C-bit, and TSME's one key is applied below the caches, so a line "
        "has one alias only"
    )
    OFF_TO_OFF = "neither kernel uses the C-bit, so a line has one alias only"
    CRASH_KERNEL = (
        "the crash kernel uses its reservation only, which was flushed when it was loaded"
    )
    ENC_COPY = "the next kernel's own WBINVD in __enc_copy covers the jumping CPU"
    WRITTEN_BACK = (
        "every stale line of this CPU is written back before the next kernel owns its memory"
    )

    @property
    def id(self) -> str:
        """Of its explanation, e.g. ``unneeded-in-guest``."""
        return f"unneeded-{self.name.lower().replace('_', '-')}"


class UnneededEither(str):
    """Several reasons, of which one holds on each machine that fits the evidence."""

    __slots__ = ()

    @property
    def id(self) -> str:
        """Of its explanation."""
        return "unneeded-either"


def in_all_worlds(reasons: Iterable[Unneeded]) -> Unneeded | UnneededEither:
    """The reason that all worlds share, else all of theirs."""
    several = list(dict.fromkeys(reasons))
    return several[0] if len(several) == 1 else UnneededEither("; or ".join(several))


def why_safe(case: Case, needed: AbstractSet[Site]) -> str:
    """Why a safe handover is safe, as a clause.

    Args:
        case: The handover.
        needed: The sites whose flush it requires.
    """
    if not needed:
        return why_unneeded(case, case.path.secondaries_site)
    names = {case.path.secondaries_site: "the secondaries", Site.RELOCATE_KERNEL: "the jumping CPU"}
    who = " and ".join(name for site, name in names.items() if site in needed)
    return f"the WBINVD that the handover requires is executed by {who}"


def why_unneeded(case: Case, site: Site) -> Unneeded:
    """Why no stale line required this site's WBINVD."""
    machine = case.machine
    # From the widest reason to the narrowest: who owns the caches, what the CPU can, what firmware
    # enabled, what the kernels do, and only then what this path has of it.
    if machine.guest is Guest.PLAIN:
        return Unneeded.IN_GUEST
    if machine.guest_encrypts:
        return _in_encrypted_guest(machine)
    if not machine.sme_supported and not machine.sev_supported and not machine.tdx_used:
        return Unneeded.NO_ENCRYPTION
    if machine.coherency_enforced:
        return Unneeded.COHERENT
    if not machine.sme_enabled and not machine.tdx_used:
        return Unneeded.FIRMWARE_OFF
    if not case.old_encrypts and not case.next_encrypts and not _has_guest_keys(case):
        return Unneeded.TSME if machine.tsme else Unneeded.OFF_TO_OFF
    return _by_way(case, site)


def _in_encrypted_guest(machine: Machine) -> Unneeded:
    if not machine.guest_aliases_coherent:
        return Unneeded.CRASH_KERNEL
    # CPUID 0x8000001F EAX[10] alone tells of them in a SEV guest: an SNP guest wants another bit
    # beside it (linux 7.3.4 arch/x86/coco/sev/core.c:234), and no leaf of Intel's has one.
    by_amd = machine.guest in {Guest.SEV, Guest.SEV_ES}
    return Unneeded.COHERENT if by_amd else Unneeded.GUEST_COHERENT


def _by_way(case: Case, site: Site) -> Unneeded:
    """Where lines have two aliases: what of them this site's CPU can have on this path."""
    if site is not Site.RELOCATE_KERNEL and not case.machine.several_cpus:
        return Unneeded.NO_SECONDARY
    # __enc_copy() runs on the CPU that starts the next kernel, and flushes before it encrypts
    # (linux 7.3.4 arch/x86/mm/mem_encrypt_boot.S:124).
    if site is Site.RELOCATE_KERNEL and case.next_encrypts and not case.old_encrypts:
        return Unneeded.ENC_COPY
    if case.path is Path.CRASH:
        return Unneeded.CRASH_KERNEL
    return Unneeded.WRITTEN_BACK


def _has_guest_keys(case: Case) -> bool:
    """May lines of keys be cached that neither kernel maps its own memory with?"""
    machine = case.machine
    return machine.sev_guests_run or (machine.tdx_used and case.behaviour.seamcalls)

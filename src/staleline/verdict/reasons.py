# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a handover is safe and why a flush is unneeded, in words a reader can check."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from staleline.verdict.case import Case
from staleline.verdict.machine import Guest
from staleline.vocabulary import Path, Site

__all__ = ["why_safe", "why_unneeded"]


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


def why_unneeded(case: Case, site: Site) -> str:
    """Why no stale line required this site's WBINVD, as a clause."""
    machine = case.machine
    if machine.guest is not Guest.NONE:
        return "in a guest the caches are the hypervisor's to write back"
    if not machine.sme_supported and not machine.sev_supported and not machine.tdx_used:
        return "this CPU has no memory encryption, so a line has one alias only"
    if machine.coherency_enforced:
        return "the hardware keeps the aliases of a line coherent (CPUID 0x8000001F EAX[10])"
    if not machine.sme_enabled and not machine.tdx_used:
        return "firmware left memory encryption off (SYSCFG[23]=0), so the C-bit is not honoured"
    if not case.old_encrypts and not case.next_encrypts:
        return "neither kernel uses the C-bit, so a line has one alias only"
    if case.path is Path.CRASH:
        return "the crash kernel uses its reservation only, which was flushed when it was loaded"
    if site is Site.RELOCATE_KERNEL and not case.old_encrypts:
        return "the next kernel's own WBINVD in __enc_copy covers the jumping CPU"
    return "every stale line of this CPU is written back before the next kernel owns its memory"

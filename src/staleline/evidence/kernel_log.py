# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel log tells of SME, SEV guests and the TDX module.

A missing message means something only if the log is complete; otherwise it is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from staleline.evidence.snapshot import LogEvidence, Snapshot

__all__ = ["by_peak", "sev_guests_run", "sme_active", "tdx_module", "with_state"]

_T = TypeVar("_T")

#: Linux arch/x86/mm/mem_encrypt.c print_mem_encrypt_feature_info(): "AMD Memory Encryption
#: Features active: SME" in 5.10, "Memory Encryption Features active: AMD SME" from 6.1 on.
_FEATURES = re.compile(r"Memory Encryption Features active:\s*(.*)")
#: Linux arch/x86/virt/vmx/tdx/tdx.c: "module initialized" (6.12), "TDX-Module initialized"
#: (7.3), "… initialization failed (%d)".
_TDX_INITIALIZED = re.compile(r"virt/tdx: (?:module|TDX-Module) initialized")
_TDX_FAILED = re.compile(r"virt/tdx: (?:module|TDX-Module) initialization failed")
#: Linux arch/x86/kvm/svm/sev.c sev_hardware_setup(): "SEV supported" (5.10),
#: "SEV enabled (ASIDs …)" (6.1 on), "SEV unusable (…)" (6.12).
_SEV_POSSIBLE = re.compile(r"\bSEV\b.*\b(?:supported|enabled|usable|unusable)\b")


def with_state(snapshot: Snapshot) -> Snapshot:
    """`snapshot` with what its log and its guest keys tell of the state it leaves unknown."""
    log = snapshot.log or LogEvidence((), complete=False)
    state = snapshot.state
    return replace(
        snapshot,
        state=replace(
            state,
            sme_active=_known(state.sme_active, sme_active(log)),
            tdx_module=_known(state.tdx_module, tdx_module(log)),
            sev_guests_run=_known(
                state.sev_guests_run, _known(by_peak(state.guest_ids_peak), sev_guests_run(log))
            ),
        ),
    )


def sme_active(log: LogEvidence) -> bool | None:
    """Did this kernel map its memory with the C-bit (host SME, not a SEV guest)?"""
    for line in log.lines:
        if found := _FEATURES.search(line):
            return "SME" in found[1].split()
    return False if log.complete else None


def sev_guests_run(log: LogEvidence) -> bool | None:
    """False if KVM never offered SEV since boot; guests themselves leave no message."""
    if any(_SEV_POSSIBLE.search(line) for line in log.lines):
        return None
    return False if log.complete else None


def tdx_module(log: LogEvidence) -> str | None:
    """``initialized``, ``failed`` (SEAMCALLs were made), ``not-initialized``, or None."""
    for line in log.lines:
        if _TDX_INITIALIZED.search(line):
            return "initialized"
        if _TDX_FAILED.search(line):
            return "failed"
    return "not-initialized" if log.complete else None


def by_peak(peak: Mapping[str, int] | None) -> bool | None:
    """Whether SEV keys were ever taken (Linux 6.12.117 kernel/cgroup/misc.c misc_cg_peak_show()).

    A kind that has no keys now is not listed, whatever was taken before; only both kinds
    at zero mean that none ever was.
    """
    kinds = [peak[kind] for kind in ("sev", "sev_es") if peak is not None and kind in peak]
    if any(kinds):
        return True
    return False if len(kinds) == 2 else None


def _known(value: _T | None, otherwise: _T | None) -> _T | None:
    return otherwise if value is None else value

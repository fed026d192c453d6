# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with nothing left unknown, and the several machines that evidence may describe.

A verdict over incomplete evidence is the verdict over every machine that fits it: if they
agree, the missing facts did not matter; if not, the facts on which they split are what is
missing. So `possible_machines` fills each unknown with both values, except where another
fact already decides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from staleline.facts import MachineFacts
from staleline.policy.atoms import AtomValue

__all__ = ["Guest", "Machine", "Possibility", "possible_machines"]

_AMD_ENCRYPTION_LEAF = 0x8000_001F
_WITH_SME = frozenset({"AuthenticAMD", "HygonGenuine"})

#: What is known of the TDX module -> were SEAMCALLs made? An initialisation that failed made
#: some; a word that is not listed tells nothing.
_TDX_USED: Mapping[str, bool] = {
    "initialized": True,
    "failed": True,
    "not-initialized": False,
    "absent": False,
}

#: Yes-or-no forms of the vendor, used only to decide what is implied.
_VENDORS = frozenset({"amd_or_hygon", "intel"})


class Guest(StrEnum):
    """What kind of virtual machine this is, if it is one."""

    NONE = "none"
    PLAIN = "plain"
    SEV = "sev"
    SEV_ES = "sev-es"
    SNP = "snp"
    TDX = "tdx"

    @property
    def wbinvd_faults(self) -> bool:
        """WBINVD raises #VC in SEV-ES and SNP guests and #VE in TDX guests.

        #VC is handled in stop_this_cpu() but not in relocate_kernel(), which runs without
        an IDT; #VE is never handled (LKML March 2024, replies to "TDX host: kexec
        support" v2; linux 6.12.117 arch/x86/coco/sev/core.c, arch/x86/coco/tdx/tdx.c).
        """
        return self in {Guest.SEV_ES, Guest.SNP, Guest.TDX}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Everything that a handover's verdict can depend on, all known.

    Names follow the policies' atoms; ``mem_encrypt`` is the command line's choice and
    ``tdx_used``/``sev_guests_run`` say whether another key's lines can be in the caches.
    No verdict depends on ``tsme``; it is there to be named as a reason.
    """

    vendor: str
    max_extended_leaf: int
    sme_supported: bool
    sev_supported: bool
    sme_bit_unchecked: bool
    coherency_enforced: bool
    hypervisor: bool
    sme_enabled: bool
    snp_host: bool
    tdx_host_enabled: bool
    sev_guest: bool
    sev_es_guest: bool
    snp_guest: bool
    tdx_guest: bool
    mem_encrypt: bool
    reboot_force: bool
    sev_guests_run: bool
    tdx_used: bool
    tsme: bool

    @property
    def guest(self) -> Guest:
        """The kind of guest, from the strongest isolation down."""
        kinds = (
            (self.tdx_guest, Guest.TDX),
            (self.snp_guest, Guest.SNP),
            (self.sev_es_guest, Guest.SEV_ES),
            (self.sev_guest, Guest.SEV),
            (self.hypervisor, Guest.PLAIN),
        )
        return next((kind for holds, kind in kinds if holds), Guest.NONE)

    @property
    def can_encrypt(self) -> bool:
        """Would a kernel booted with mem_encrypt=on use SME here?

        The condition of sme_enable() (linux 6.12.117 arch/x86/mm/mem_encrypt_identity.c):
        a capability bit, no hypervisor, and SYSCFG[23]; the vendor is not asked.
        """
        capable = self.sme_supported or self.sev_supported
        return capable and self.sme_enabled and not self.hypervisor

    @property
    def activates_sme(self) -> bool:
        """Does a kernel with this command line encrypt its memory as a host?"""
        return self.can_encrypt and self.mem_encrypt and not self.sev_guest

    def atoms(self, *, seamcalled: bool) -> Mapping[str, AtomValue]:
        """Values for a policy's predicates on one CPU of this machine."""
        return {
            "vendor": self.vendor,
            "max_extended_leaf": self.max_extended_leaf,
            "sme_supported": self.sme_supported,
            "sev_supported": self.sev_supported,
            "sme_bit_unchecked": self.sme_bit_unchecked,
            "hypervisor": self.hypervisor,
            "sme_enabled": self.sme_enabled,
            "tdx_host_enabled": self.tdx_host_enabled,
            "sev_guest": self.sev_guest,
            "sev_es_guest": self.sev_es_guest,
            "tdx_guest": self.tdx_guest,
            "mem_encrypt": self.mem_encrypt,
            "sme_active": self.activates_sme,
            "snp_host": self.snp_host,
            "seamcalled": seamcalled,
        }


@dataclass(frozen=True, slots=True)
class Possibility:
    """One machine that fits the evidence, and what had to be assumed for it."""

    machine: Machine
    assumed: Mapping[str, bool]


_Known = dict[str, bool | None]


def possible_machines(facts: MachineFacts) -> tuple[Possibility, ...]:
    """Every machine that fits the facts; one if nothing that matters is missing."""
    vendor = facts.text("vendor") or "unknown"
    leaf = facts.integer("max_extended_leaf")
    open_ends: list[tuple[_Known, dict[str, bool]]] = [(_observed(facts, vendor), {})]
    done: list[Possibility] = []
    while open_ends:
        known, assumed = open_ends.pop()
        _decide_implied(known)
        unknown = next((name for name, value in known.items() if value is None), None)
        if unknown is None:
            done.append(Possibility(_machine(vendor, leaf, known), assumed))
            continue
        for value in (False, True):
            open_ends.append((known | {unknown: value}, assumed | {unknown: value}))
    return tuple(done)


def _observed(facts: MachineFacts, vendor: str) -> _Known:
    """Yes-or-no facts in the order in which they decide each other."""
    sme_active = facts.boolean("sme_active")
    return {
        "amd_or_hygon": vendor in _WITH_SME,
        "intel": vendor == "GenuineIntel",
        "hypervisor": facts.boolean("hypervisor"),
        "sme_supported": facts.boolean("sme"),
        "sev_supported": facts.boolean("sev"),
        "sme_bit_unchecked": facts.boolean("unchecked_sme_bit"),
        "coherency_enforced": facts.boolean("coherency_enforced"),
        "tdx_guest": facts.boolean("tdx_guest"),
        "sev_guest": facts.boolean("sev_guest"),
        "sev_es_guest": facts.boolean("sev_es_guest"),
        "snp_guest": facts.boolean("snp_guest"),
        "sme_enabled": True if sme_active else facts.boolean("sme_enabled"),
        "snp_host": facts.boolean("snp_enabled"),
        "tdx_host_enabled": _tdx_host_enabled(facts),
        "mem_encrypt": _mem_encrypt(facts),
        # Off unless somebody turned it on: not worth leaving every dump's verdict open.
        "reboot_force": facts.boolean("reboot_force") or False,
        "sev_guests_run": facts.boolean("sev_guests_run"),
        "tsme": facts.boolean("tsme") or False,
        "tdx_used": _TDX_USED.get(facts.text("tdx_module") or ""),
    }


def _tdx_host_enabled(facts: MachineFacts) -> bool | None:
    """At least two TDX KeyIDs (linux 7.3.4 arch/x86/virt/vmx/tdx/tdx.c); none without TME."""
    if facts.boolean("tme") is False:
        return False
    keyids = facts.integer("tdx_keyids")
    return None if keyids is None else keyids >= 2


def _mem_encrypt(facts: MachineFacts) -> bool | None:
    """The command line's choice; absent means off (the default of every kernel read)."""
    choice, cmdline = facts.text("mem_encrypt"), facts.text("cmdline")
    if choice is not None:
        return choice == "on"
    # A value that is neither on nor off: kernels differ in what they make of it.
    return None if cmdline is None or "mem_encrypt=" in cmdline else False


def _decide_implied(known: _Known) -> None:
    """Fill in what other facts leave no choice about, so that it is not assumed both ways."""
    for condition, names in _IMPLIED_FALSE:
        if all(known[name] is value for name, value in condition.items()):
            known.update({name: False for name in names if known[name] is None})


_IMPLIED_FALSE: tuple[tuple[Mapping[str, bool], tuple[str, ...]], ...] = (
    # SME and SEV exist on AMD's and Hygon's CPUs only; TDX on Intel's only.
    (
        {"amd_or_hygon": False},
        ("sme_supported", "sev_supported", "coherency_enforced", "sme_enabled", "sev_guest"),
    ),
    ({"intel": False}, ("tdx_guest", "tdx_host_enabled", "tdx_used")),
    ({"hypervisor": False}, ("sev_guest", "tdx_guest")),
    # sme_enable() reads SEV_STATUS only where CPUID shows SME or SEV.
    ({"sev_supported": False}, ("sev_guest", "sev_guests_run")),
    ({"sev_guest": False}, ("sev_es_guest", "snp_guest")),
    # A guest's caches are its hypervisor's: no host key and no KeyID is in its hands.
    (
        {"hypervisor": True},
        ("sme_enabled", "snp_host", "tdx_host_enabled", "sev_guests_run", "tdx_used"),
    ),
    (
        {"sme_supported": False, "sev_supported": False},
        ("coherency_enforced", "sme_enabled"),
    ),
    # Without SYSCFG[23] no C-bit is honoured, for the host's memory or for SEV guests'.
    ({"sme_enabled": False}, ("snp_host", "mem_encrypt", "sev_guests_run")),
    ({"tdx_host_enabled": False}, ("tdx_used",)),
)


def _machine(vendor: str, leaf: int | None, known: Mapping[str, bool | None]) -> Machine:
    if leaf is None:
        leaf = _AMD_ENCRYPTION_LEAF if known["sme_supported"] or known["sev_supported"] else 0
    return Machine(
        vendor=vendor,
        max_extended_leaf=leaf,
        **{name: bool(value) for name, value in known.items() if name not in _VENDORS},
    )

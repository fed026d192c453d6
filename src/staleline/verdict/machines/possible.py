# SPDX-License-Identifier: GPL-2.0-or-later
"""The machines that evidence may describe.

A verdict over incomplete evidence is the verdict over every machine that fits it: if they agree,
the missing facts did not matter; if not, the facts on which they split are what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from staleline.evidence.contradiction import Contradiction, raise_if_any
from staleline.facts import Fact, MachineFacts
from staleline.hardware import AMD_AND_HYGON, ENCRYPTION_LEAF
from staleline.policy.atoms import VENDORS
from staleline.verdict.machines.answered import Answered, followed
from staleline.verdict.machines.exclusions import OF_VENDOR
from staleline.verdict.machines.machine import Machine

__all__ = ["FACT_NAMES", "Possibility", "possible_machines"]

#: What is known of the TDX module -> may lines of its keys be in the caches? One whose
#: initialisation failed may have written nothing, and kernels flush where it may have (linux 7.3.4
#: arch/x86/virt/vmx/tdx/tdx.c init_tdx_module(), err_reset_pamts). A word that is not listed tells
#: nothing either.
_TDX_USED: Mapping[str, bool] = {
    "initialized": True,
    "not-initialized": False,
    "absent": False,
}

#: Fields of a machine whose fact goes by another name.
FACT_NAMES = {
    "sme_supported": "sme",
    "sev_supported": "sev",
    "sme_bit_unchecked": "unchecked_sme_bit",
    "snp_host": "snp_enabled",
    "tdx_host_enabled": "tdx_keyids",
    "tdx_used": "tdx_module",
    "offline": "offline_cpus",
    "jumped_by_kernel": "jumped_by",
}

#: What is looked at to find the possible machines, and is no field of one.
_NO_FIELDS = OF_VENDOR | {"sme_active", "coherency_sfw_no"}


@dataclass(frozen=True, slots=True)
class Possibility:
    """One machine that fits the evidence, and what had to be assumed for it."""

    machine: Machine
    assumed: Mapping[str, bool | str]


def possible_machines(facts: MachineFacts) -> tuple[Possibility, ...]:
    """Every machine that fits the facts; one if nothing that matters is missing.

    Raises:
        ContradictionError: None does, as some facts exclude each other.
    """
    vendor = facts.text("vendor")
    leaf = facts.integer("max_extended_leaf")
    # An unknown vendor is one of these four, not a fifth that has no encryption.
    possible = tuple(
        possibility
        for name in (VENDORS if vendor is None else (vendor,))
        for possibility in _possible(
            name, leaf, Answered.of(_observed(facts, name)), vendor is not None
        )
    )
    if not possible:
        raise_if_any((_excluded(facts),), None)
    return possible


# Classes of a fleet's machines come with one kernel after the other.
@lru_cache(1024)
def _possible(
    vendor: str, leaf: int | None, told: Answered, vendor_is_told: bool
) -> tuple[Possibility, ...]:
    given: dict[str, bool | str] = {} if vendor_is_told else {"vendor": vendor}
    return tuple(_filled(vendor, leaf, told, given))


def _filled(
    vendor: str, leaf: int | None, told: Answered, given: Mapping[str, bool | str]
) -> Iterator[Possibility]:
    """Every way in which the open questions may turn out."""
    open_ends = [(told, given)]
    while open_ends:
        answered, assumed = open_ends.pop()
        # Each unknown is filled with every value, except where other facts leave no choice; and
        # facts that cannot hold together, whoever gave them, fit no machine.
        answered, broken = followed(answered)
        if broken is not None:
            continue
        unknown = answered.first_unknown
        if unknown is None:
            yield Possibility(_machine(vendor, leaf, answered.as_mapping), assumed)
            continue
        # The plainest machine comes first: it gives the counterexample that is shown.
        for value in (True, False):
            open_ends.append((answered.answering(unknown, value), {**assumed, unknown: value}))


def _observed(facts: MachineFacts, vendor: str) -> Mapping[str, bool | None]:
    """Yes-or-no facts in the order in which they decide each other."""
    offline = facts["offline_cpus"].value
    return {
        "amd": vendor == "AuthenticAMD",
        "amd_or_hygon": vendor in AMD_AND_HYGON,
        "intel": vendor == "GenuineIntel",
        # What the running kernel does follows from the rest; that it encrypts tells of the rest.
        "sme_active": facts.boolean("sme_active") or False,
        "hypervisor": facts.boolean("hypervisor"),
        # Where it is not known, nor is it known who jumps: the same leaf tells both.
        "isolated": facts.boolean("isolated") or False,
        "sme_supported": facts.boolean("sme"),
        "sev_supported": facts.boolean("sev"),
        "sme_bit_unchecked": facts.boolean("unchecked_sme_bit"),
        "coherency_enforced": facts.boolean("coherency_enforced"),
        "coherency_sfw_no": facts.boolean("coherency_sfw_no"),
        "tdx_guest": facts.boolean("tdx_guest"),
        "sev_guest": facts.boolean("sev_guest"),
        "sev_es_guest": facts.boolean("sev_es_guest"),
        "snp_guest": facts.boolean("snp_guest"),
        "sme_enabled": facts.boolean("sme_enabled"),
        "snp_host": facts.boolean("snp_enabled"),
        "tdx_host_enabled": _tdx_host_enabled(facts),
        "mem_encrypt": _mem_encrypt(facts),
        "sev_guests_run": facts.boolean("sev_guests_run"),
        "tdx_used": _tdx_used(facts),
        "jumped_by_kernel": _jumped_by_kernel(facts),
        "several_cpus": facts.boolean("several_cpus"),
        "reboot_force": facts.boolean("reboot_force"),
        "offline": None if offline is None else bool(offline),
        "mwait": facts.boolean("mwait"),
        # No evidence tells these; see missing.py.
        "guest_keys_snooped": None,
        "guest_aliases_coherent": None,
        "guest_flushes": None,
        # Only a reason is named after it: the verdict is the same with and without.
        "tsme": facts.boolean("tsme") or False,
    }


def _tdx_used(facts: MachineFacts) -> bool | None:
    """Were SEAMCALLs made? That a CPU made one says so, whatever else is known."""
    if facts["seamcalled_cpus"].value:
        return True
    return _TDX_USED.get(facts.text("tdx_module") or "")


def _tdx_host_enabled(facts: MachineFacts) -> bool | None:
    """At least two TDX KeyIDs (linux 7.3.4 arch/x86/virt/vmx/tdx/tdx.c); none without TME."""
    if facts.boolean("tme") is False:
        return False
    keyids = facts.integer("tdx_keyids")
    return None if keyids is None else keyids >= 2


def _mem_encrypt(facts: MachineFacts) -> bool | None:
    """The kernel's choice by its command line and build, where that is known."""
    choice = facts.text("mem_encrypt")
    return None if choice is None else choice == "on"


def _jumped_by_kernel(facts: MachineFacts) -> bool | None:
    jumper = facts.text("jumped_by")
    return None if jumper is None else jumper == "kernel"


def _machine(vendor: str, leaf: int | None, known: Mapping[str, bool]) -> Machine:
    # The least maximum that agrees with the bits: rules that look at it first see them.
    if leaf is None:
        leaf = ENCRYPTION_LEAF if known["sme_supported"] or known["sev_supported"] else 0
    return Machine(
        vendor=vendor,
        max_extended_leaf=leaf,
        **{name: value for name, value in known.items() if name not in _NO_FIELDS},
    )


def _excluded(facts: MachineFacts) -> Contradiction:
    """Which facts exclude each other, on the first vendor that the facts leave."""
    vendor = facts.text("vendor") or VENDORS[0]
    _, broken = followed(Answered.of(_observed(facts, vendor)))
    told = dict(_told(facts, broken or {}))
    return Contradiction("facts-exclude-each-other", " and ".join(told.values()), tuple(told))


def _told(facts: MachineFacts, broken: Mapping[str, bool]) -> Iterator[tuple[str, str]]:
    for name, value in broken.items():
        fact = _fact(facts, name)
        if fact is None or fact.value is None:
            yield name, f"{name} would have to be {'no' if value else 'yes'}"
        else:
            yield fact.name, f"{fact.name} is {_word(fact)} ({fact.source})"


def _fact(facts: MachineFacts, name: str) -> Fact | None:
    return facts.facts.get("vendor" if name in OF_VENDOR else FACT_NAMES.get(name, name))


def _word(fact: Fact) -> str:
    if isinstance(fact.value, bool):
        return "yes" if fact.value else "no"
    return str(fact.value)

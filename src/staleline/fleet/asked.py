# SPDX-License-Identifier: GPL-2.0-or-later
"""The facts that a verdict can ask of a machine: hosts that agree in them are one class."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache, lru_cache

from staleline.evidence.snapshot import Snapshot
from staleline.facts import Fact, MachineFacts, Value, from_snapshot
from staleline.facts.hypervisor import hypervisor_name, names_itself
from staleline.verdict.machines.registers import has_cpuid

__all__ = [
    "ASKED",
    "BOOLEANS",
    "INTEGERS",
    "REGISTERS",
    "ClassValues",
    "asked_values",
    "machine_facts",
    "number_of",
    "registers_kind",
]

INTEGERS = ("max_extended_leaf", "tdx_keyids")
TEXTS = ("vendor", "mem_encrypt", "tdx_module", "jumped_by")
#: Lists of CPUs of which only matters whether there are any.
_LISTS = ("offline_cpus", "seamcalled_cpus")
#: Numbers of which only matters whether they reach so much: a host with TDX needs two KeyIDs
#: (`staleline.verdict.machines.possible`).
_ONLY_UP_TO = {"tdx_keyids": 2}
BOOLEANS = (
    *("hypervisor", "isolated", "sme", "sev", "unchecked_sme_bit", "coherency_enforced"),
    *("coherency_sfw_no", "tdx_guest", "sev_guest", "sev_es_guest", "snp_guest", "sme_enabled"),
    *("snp_enabled", "tme", "tsme", "several_cpus", "mwait", "sme_active", "sev_guests_run"),
    *("reboot_force", "crash_kernel_borrows", "stop_path_changed", "unread_messages", *_LISTS),
)
#: In the order of their columns.
ASKED = (*TEXTS, *INTEGERS, *BOOLEANS)
#: What an image's code is run on besides these facts; no rule that is believed depends on more
#: (`staleline.verdict.machines.registers`).
REGISTERS = "registers"

#: One per name in `ASKED`.
ClassValues = tuple[bool | int | str | None, ...]

_SOURCE = "as the hosts of this class tell"
#: Integers of the engines are signed and have 64.
_BITS = 63


def asked_values(facts: MachineFacts) -> ClassValues:
    """The values of `ASKED`, of which two hosts are judged alike."""
    return tuple(_comparable(name, facts[name].value) for name in ASKED)


def _comparable(name: str, value: Value) -> bool | int | str | None:
    if isinstance(value, tuple) or name in _LISTS:
        return None if value is None else bool(value)
    if name in _ONLY_UP_TO and isinstance(value, int):
        return min(value, _ONLY_UP_TO[name])
    return value


@lru_cache(1024)
def machine_facts(values: ClassValues) -> MachineFacts:
    """A class as a machine: its facts, and of those that nothing tells how to get them."""
    # These and nothing else: a verdict that asked for another fact would not come about at all.
    templates = _untold()
    return MachineFacts.of(
        _fact(templates[name], value) for name, value in zip(ASKED, values, strict=True)
    )


def _fact(template: Fact, value: bool | int | str | None) -> Fact:
    # Which of the CPUs decides nothing (`_LISTS`): one stands for all.
    told: Value = (
        ((0,) if value else ()) if value is not None and template.name in _LISTS else value
    )
    if told is None:
        missing = template.missing or f"{template.name} is not known"
        return Fact(template.name, template.layer, template.text, None, missing=missing)
    return Fact(template.name, template.layer, template.text, told, source=_SOURCE)


@cache
def _untold() -> Mapping[str, Fact]:
    """What is said of each fact where there is no evidence at all."""
    return from_snapshot(Snapshot(cpus=())).facts


def registers_kind(snapshot: Snapshot) -> str:
    """What an image's code would be run on, beside the facts: whose registers, below whom."""
    if not has_cpuid(snapshot):
        return f"made up, below {hypervisor_name(snapshot)}"
    cpuids = [cpu.cpuid for cpu in snapshot.cpus[:2]]
    # By its model a CPU has other code of a kernel run, of which not all is run to its end: that
    # by which an NMI stops Debian's 6.1.0-50 is on a Sapphire Rapids (0x806f8), and is not on an
    # Ice Lake (0x606a6).
    models = [one.family_model_stepping for one in cpuids]
    return (
        f"read, {[names_itself(one) for one in cpuids]} {models}, below {hypervisor_name(snapshot)}"
    )


def number_of(*values: object) -> int:
    """A number for values that JSON has, the same on every machine and in every run."""
    digest = hashlib.sha256(json.dumps(values, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _BITS)

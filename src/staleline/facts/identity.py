# SPDX-License-Identifier: GPL-2.0-or-later
"""Who the CPU is, and whether software runs on it directly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import CpuinfoEvidence, Snapshot
from staleline.facts.fact import Fact, Layer, Value
from staleline.facts.hypervisor import WHICH_HYPERVISOR, names_itself
from staleline.facts.observation import (
    DUMP_AGAIN,
    NOT_READ,
    Observation,
    first_told,
    merged_observation,
    observed_as,
    untold,
)
from staleline.facts.told.log import of_log, of_log_before_registers
from staleline.facts.told.stated import stated
from staleline.hardware import AMD_AND_HYGON, EXTENDED_LEAVES

__all__ = ["identity_facts"]

#: What is no number.
_KINDS: Mapping[str, type] = {"vendor": str, "signature": str, "hypervisor": bool}


def identity_facts(snapshot: Snapshot) -> Iterator[Fact]:
    """Vendor, signature, family, model, stepping, maxima and hypervisor bit, in this order."""
    cpuinfo = snapshot.cpuinfo or CpuinfoEvidence()
    yield _fact(snapshot, "vendor", "CPU vendor", _vendor, cpuinfo.vendor)
    yield _fact(snapshot, "signature", "family, model and stepping as CPUID codes them", _signature)
    for index, name in enumerate(("family", "model", "stepping")):
        yield _fact(
            snapshot, name, f"CPU {name}", _family_model_stepping(index), getattr(cpuinfo, name)
        )
    yield _fact(snapshot, "max_basic_leaf", "highest basic CPUID leaf", _max_basic_leaf)
    yield _fact(snapshot, "max_extended_leaf", "highest extended CPUID leaf", _max_extended_leaf)
    yield _fact(
        snapshot,
        "hypervisor",
        "runs under a hypervisor",
        _hypervisor,
        True if "hypervisor" in cpuinfo.flags and not snapshot.may_have_forced_flags else None,
    )


def _fact(
    snapshot: Snapshot,
    name: str,
    text: str,
    of_cpu: Callable[[CpuidTable], Observation],
    of_cpuinfo: Value = None,
) -> Fact:
    missing = WHICH_HYPERVISOR if name == "hypervisor" else NOT_READ
    observation = merged_observation((of_cpu(cpu.cpuid) for cpu in snapshot.cpus), missing)
    cpuinfo = () if of_cpuinfo is None else (observed_as(of_cpuinfo, "/proc/cpuinfo"),)
    # The best witness first; the first two know that the registers show another machine's.
    observations = (
        *of_log_before_registers(snapshot, name),
        *_seen_beside_its_bit(snapshot, name),
        observation,
        *cpuinfo,
        *stated(name, snapshot, _KINDS.get(name, int)),
        *of_log(snapshot, name),
    )
    return first_told(observations).fact(name, Layer.IDENTITY, text)


def _seen_beside_its_bit(snapshot: Snapshot, name: str) -> Iterator[Observation]:
    """A hypervisor that lscpu found, by its signature, DMI, /proc/xen or PCI, or one CPU's leaf."""
    # The bit can be hidden from a guest, and in a PV domain CPUID is that of the machine
    # (util-linux 2.38.1 sys-utils/lscpu-virt.c:538-600).
    if name == "hypervisor":
        if any(names_itself(cpu.cpuid) for cpu in snapshot.cpus):
            yield observed_as(True, "CPUID 0x40000000")
        yield from (seen for seen in stated(name, snapshot, bool) if seen.value)
        for named in stated("hypervisor_name", snapshot, str):
            if named.value != "none":
                yield observed_as(True, named.source or "")


def _vendor(cpuid: CpuidTable) -> Observation:
    if cpuid.vendor is not None:
        return observed_as(cpuid.vendor, "CPUID 0x00000000")
    # AMD's and Hygon's repeat it there in the layout of leaf 0; a dump may begin with it.
    repeated = cpuid.recorded(EXTENDED_LEAVES)
    if repeated is not None:
        vendor = CpuidTable({(0, 0): repeated}).vendor
        if vendor in AMD_AND_HYGON:
            return observed_as(vendor, f"CPUID {EXTENDED_LEAVES:#010x}")
    return _not_recorded(0)


def _signature(cpuid: CpuidTable) -> Observation:
    leaf = cpuid.recorded(1)
    return (
        _not_recorded(1)
        if leaf is None
        else observed_as(f"{leaf[0]:#010x}", "CPUID 0x00000001 EAX")
    )


def _family_model_stepping(index: int) -> Callable[[CpuidTable], Observation]:
    def observe(cpuid: CpuidTable) -> Observation:
        decoded = cpuid.family_model_stepping
        return (
            _not_recorded(1)
            if decoded is None
            else observed_as(decoded[index], "CPUID 0x00000001 EAX")
        )

    return observe


def _max_basic_leaf(cpuid: CpuidTable) -> Observation:
    maximum = cpuid.max_basic_leaf
    return _not_recorded(0) if maximum is None else observed_as(maximum, "CPUID 0x00000000 EAX")


def _max_extended_leaf(cpuid: CpuidTable) -> Observation:
    maximum = cpuid.max_extended_leaf
    if maximum is None:
        return _not_recorded(EXTENDED_LEAVES)
    return observed_as(maximum, f"CPUID {EXTENDED_LEAVES:#010x} EAX")


def _hypervisor(cpuid: CpuidTable) -> Observation:
    # Before the bit: a hypervisor may hide that, and its signature is on no bare machine.
    if names_itself(cpuid):
        return observed_as(True, "CPUID 0x40000000")
    leaf = cpuid.recorded(1)
    return (
        _not_recorded(1)
        if leaf is None
        else observed_as(bool(leaf[2] >> 31), "CPUID 0x00000001 ECX[31]")
    )


def _not_recorded(leaf: int) -> Observation:
    return untold(f"CPUID leaf {leaf:#010x} is not recorded: {DUMP_AGAIN}")

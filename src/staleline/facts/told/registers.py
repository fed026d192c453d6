# SPDX-License-Identifier: GPL-2.0-or-later
"""What the table's registers say on one machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import CpuEvidence, Snapshot
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
from staleline.facts.told.table import CpuidField, MsrField, RegisterFact
from staleline.hardware import EXTENDED_LEAVES

__all__ = ["observe"]

_NO_VENDOR = f"the CPU vendor, without which registers have no meaning: {DUMP_AGAIN}"


def observe(
    row: RegisterFact, snapshot: Snapshot, vendor: str | None, known: Mapping[str, Observation]
) -> Observation:
    """What the evidence says of `row`.

    Args:
        row: The fact asked for.
        snapshot: The evidence.
        vendor: The CPU vendor, or None where unknown.
        known: Observations made so far, by fact name, for `row.requires`.
    """
    return first_told(_observations(row, snapshot, vendor, known))


def _observations(
    row: RegisterFact, snapshot: Snapshot, vendor: str | None, known: Mapping[str, Observation]
) -> Iterator[Observation]:
    if row.vendors and vendor is not None and vendor not in row.vendors:
        yield _absent(row, f"vendor {vendor} defines no {row.field}")
        return
    # No register of such a guest counts, whatever the dump has there.
    if row.hidden_if is not None and known[row.hidden_if].value:
        yield untold(f"{row.field} is hidden from this guest: {known[row.hidden_if].source}")
        yield from of_log(snapshot, row.name, vendor)
        return
    yield from of_log_before_registers(snapshot, row.name)
    if row.vendors and vendor is None:
        yield merged_observation((_of_any_vendor(row, cpu) for cpu in snapshot.cpus), _NO_VENDOR)
    else:
        yield merged_observation((_of_cpu(row, cpu) for cpu in snapshot.cpus), _how_to_get(row))
    yield from _of_cpuinfo(row, snapshot, vendor)
    yield from stated(row.name, snapshot, row.field.bits.kind)
    yield from of_log(snapshot, row.name, vendor)
    for alternatives in row.requires:
        observed = [known[name] for name in alternatives]
        if all(observation.value is False for observation in observed):
            told_by = " and ".join(f"{n} is false by {known[n].source}" for n in alternatives)
            yield _absent(row, told_by)


def _of_any_vendor(row: RegisterFact, cpu: CpuEvidence) -> Observation:
    """Bits may mean something else to another vendor; none has leaves beyond the last one."""
    if isinstance(row.field, CpuidField):
        beyond = _beyond_maximum(row.field.leaf, cpu.cpuid)
        if beyond.value:
            return _absent(row, beyond.source or "")
    return untold(_NO_VENDOR)


def _of_cpu(row: RegisterFact, cpu: CpuEvidence) -> Observation:
    if isinstance(row.field, MsrField):
        return _of_msr(row, row.field, cpu)
    return _of_cpuid(row, row.field, cpu.cpuid)


def _of_msr(row: RegisterFact, field: MsrField, cpu: CpuEvidence) -> Observation:
    value = cpu.msr.get(field.number)
    if value is not None:
        return observed_as(field.bits.of(value), str(field))
    # RDMSR of a reserved address raises #GP (AMD APM volume 3, Intel SDM volume 2: RDMSR).
    if field.number in cpu.msr_faults:
        return _absent(row, f"MSR {field.number:#x}: does not exist, RDMSR faults")
    return untold(_how_to_get(row))


def _of_cpuid(row: RegisterFact, field: CpuidField, cpuid: CpuidTable) -> Observation:
    beyond = _beyond_maximum(field.leaf, cpuid)
    if beyond.value is None:
        return beyond
    if beyond.value:
        return _absent(row, beyond.source or "")
    registers = cpuid.recorded(field.leaf)
    if registers is None:
        return untold(f"CPUID leaf {field.leaf:#010x} is not recorded: {DUMP_AGAIN}")
    return observed_as(field.bits.of(registers[field.index]), str(field))


def _beyond_maximum(leaf: int, cpuid: CpuidTable) -> Observation:
    """Is `leaf` beyond the maximum of its range? Unknown without the maximum."""
    base = EXTENDED_LEAVES if leaf >= EXTENDED_LEAVES else 0
    maximum = cpuid.max_extended_leaf if base else cpuid.max_basic_leaf
    if maximum is None:
        return untold(f"CPUID leaf {base:#010x}, the highest leaf, is not recorded: {DUMP_AGAIN}")
    return observed_as(
        leaf > maximum, f"CPUID {base:#010x} EAX: leaf {leaf:#010x} is beyond {maximum:#010x}"
    )


def _of_cpuinfo(row: RegisterFact, snapshot: Snapshot, vendor: str | None) -> Iterator[Observation]:
    # Presence only: Linux clears flags that firmware disabled or that it does not use. And not
    # where flags may have been set by hand.
    forced = snapshot.may_have_forced_flags
    proves = not row.flag_vendors or vendor in row.flag_vendors
    if snapshot.cpuinfo is not None and proves and not forced:
        for flag in row.flags:
            if flag in snapshot.cpuinfo.flags:
                yield observed_as(True, f"/proc/cpuinfo flag {flag}")


def _absent(row: RegisterFact, source: str) -> Observation:
    if row.absent is None:
        return untold(f"there is none: {source}")
    return observed_as(row.absent, source)


def _how_to_get(row: RegisterFact) -> str:
    if isinstance(row.field, MsrField):
        number = row.field.number
        return (
            f"MSR {number:#x} was not read: as root, modprobe msr, and give what rdmsr prints: "
            f'--msr "{number:#x}=$(rdmsr -a -c {number:#x})"'
        )
    return NOT_READ

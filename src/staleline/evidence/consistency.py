# SPDX-License-Identifier: GPL-2.0-or-later
"""Contradictions inside one snapshot: two observations that cannot both be of one machine.

Differences that real machines show are not contradictions: EDX of leaf 0x8000001F (the
lowest ASID without SEV-ES) differs between the CPUs of one machine, leaf 1 EBX and the
topology leaves do by design, and steppings may be mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from staleline.errors import EvidenceError
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import Snapshot

__all__ = ["require_consistent"]

_SME_LEAF = 0x8000_001F
_SYSCFG = 0xC001_0010
_HYPERVISOR = 1 << 31
#: /proc/cpuinfo flag -> bit of leaf 0x8000001F EAX it is copied from (Linux
#: arch/x86/include/asm/cpufeatures.h word 19); Linux clears such flags and never sets them.
_COPIED_FLAGS = {"sme": 0, "sev": 1, "sev_es": 3, "sev_snp": 4}


def require_consistent(snapshot: Snapshot, where: str) -> None:
    """Check `snapshot`, read from `where`.

    Raises:
        EvidenceError: Two fields contradict each other; both are named.
    """
    for check in (
        _cpus_agree,
        _beyond_maximum_follows_vendor,
        _cpuinfo_agrees,
        _cpuinfo_flags_agree,
        _sme_active_is_possible,
        _tdx_is_possible,
    ):
        for contradiction in check(snapshot):
            raise EvidenceError(
                contradiction, where=where, do="give evidence of one machine, taken in one go"
            )


def _cpus_agree(snapshot: Snapshot) -> Iterator[str]:
    observed: tuple[tuple[str, Callable[[CpuidTable], object]], ...] = (
        ("cpuid.0x00000000:0 (vendor)", lambda cpuid: cpuid.vendor),
        ("cpuid.0x8000001f:0 EAX[0] (SME)", lambda cpuid: _sme_bit(cpuid, 0)),
        ("cpuid.0x8000001f:0 EAX[10] (coherency enforced)", lambda cpuid: _sme_bit(cpuid, 10)),
        ("cpuid.0x8000001f:0 EBX[5:0] (C-bit position)", _cbit_position),
    )
    for name, observe in observed:
        values = [(i, observe(cpu.cpuid)) for i, cpu in enumerate(snapshot.cpus)]
        known = [(i, value) for i, value in values if value is not None]
        for i, value in known[1:]:
            if value != known[0][1]:
                yield (
                    f"cpus[{known[0][0]}].{name} is {known[0][1]!r} "
                    f"and cpus[{i}].{name} is {value!r}"
                )


def _beyond_maximum_follows_vendor(snapshot: Snapshot) -> Iterator[str]:
    """Data in leaf 0x8000001F beyond the maximum that the vendor's rule excludes.

    Only leaf 0x8000001F: AMD CPUs are known to answer at other leaves beyond their
    maximum (0x8FFFFFFF). Hypervisors make rules of their own. Zeros are let pass, as
    dump tools fill in zeros.
    """
    for i, cpu in enumerate(snapshot.cpus):
        maximum = cpu.cpuid.max_extended_leaf
        recorded = cpu.cpuid.recorded(_SME_LEAF)
        expected = cpu.cpuid.read(_SME_LEAF)
        if maximum is None or maximum >= _SME_LEAF or recorded is None or expected is None:
            continue
        if any(recorded) and recorded[0] != expected[0] and _on_bare_metal(cpu.cpuid):
            yield (
                f"cpus[{i}].cpuid.0x8000001f:0 has EAX={recorded[0]:#010x} and "
                f"cpus[{i}].cpuid.0x80000000:0 says the highest leaf is {maximum:#010x}, "
                f"where {cpu.cpuid.vendor} answers EAX={expected[0]:#010x}"
            )


def _on_bare_metal(cpuid: CpuidTable) -> bool:
    leaf = cpuid.recorded(1)
    return leaf is not None and not leaf[2] & _HYPERVISOR


def _cpuinfo_agrees(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.cpuinfo is None or not snapshot.cpus:
        return
    cpuid, cpuinfo = snapshot.cpus[0].cpuid, snapshot.cpuinfo
    if None not in (cpuid.vendor, cpuinfo.vendor) and cpuid.vendor != cpuinfo.vendor:
        yield (
            f"cpuinfo.vendor is {cpuinfo.vendor!r} "
            f"and cpus[0].cpuid.0x00000000:0 says {cpuid.vendor!r}"
        )
    # Mixed steppings: cpuinfo is of the first CPU, as cpus[0] is.
    if cpuid.family_model_stepping is None:
        return
    named = zip(("family", "model", "stepping"), cpuid.family_model_stepping, strict=True)
    for name, of_cpuid in named:
        of_cpuinfo = getattr(cpuinfo, name)
        if of_cpuinfo is not None and of_cpuinfo != of_cpuid:
            yield (
                f"cpuinfo.{name} is {of_cpuinfo} "
                f"and cpus[0].cpuid.0x00000001:0 says {name} {of_cpuid}"
            )


def _cpuinfo_flags_agree(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.cpuinfo is None or not snapshot.cpus:
        return
    for flag, bit in _COPIED_FLAGS.items():
        if flag in snapshot.cpuinfo.flags and _sme_bit(snapshot.cpus[0].cpuid, bit) is False:
            yield (
                f"cpuinfo.flags holds {flag!r} and cpus[0].cpuid.0x8000001f:0 EAX[{bit}] is clear"
            )


def _sme_active_is_possible(snapshot: Snapshot) -> Iterator[str]:
    if not snapshot.state.sme_active:
        return
    for i, cpu in enumerate(snapshot.cpus):
        if _sme_bit(cpu.cpuid, 0) is False:
            yield f"state.sme_active is true and cpus[{i}].cpuid.0x8000001f:0 EAX[0] says no SME"
        syscfg = cpu.msr.get(_SYSCFG)
        if syscfg is not None and not syscfg >> 23 & 1:
            yield f"state.sme_active is true and cpus[{i}].msr.0xc0010010 bit 23 is clear"


def _tdx_is_possible(snapshot: Snapshot) -> Iterator[str]:
    for i, cpu in enumerate(snapshot.cpus[:1]):
        vendor = cpu.cpuid.vendor
        if snapshot.state.tdx_module == "initialized" and vendor not in (None, "GenuineIntel"):
            yield (
                f"state.tdx_module is 'initialized' and cpus[{i}].cpuid.0x00000000:0 says "
                f"{vendor!r}"
            )


def _sme_bit(cpuid: CpuidTable, bit: int) -> bool | None:
    maximum = cpuid.max_extended_leaf
    if maximum is None:
        return None
    if maximum < _SME_LEAF:
        return False
    leaf = cpuid.recorded(_SME_LEAF)
    return None if leaf is None else bool(leaf[0] >> bit & 1)


def _cbit_position(cpuid: CpuidTable) -> int | None:
    maximum = cpuid.max_extended_leaf
    leaf = cpuid.recorded(_SME_LEAF)
    if maximum is None or maximum < _SME_LEAF or leaf is None:
        return None
    return leaf[1] & 0x3F

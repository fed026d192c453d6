# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers of a machine that an image's code is run on.

They are the observed ones, with the bits of the listed facts as the machine has them: what is
assumed where nothing was observed, and what other evidence told where CPUID is not at hand.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import Snapshot
from staleline.facts.hypervisor import (
    HYPERVISOR_LEAF,
    hypervisor_name,
    names_itself,
    signatures,
)
from staleline.hardware import ENCRYPTION_LEAF, SEV_STATUS, SYSCFG, TDX_GUEST_LEAF, TDX_KEYIDS
from staleline.kernel.boot.decision import RawMachine
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.verdict.machines.machine import Machine

__all__ = ["asked_of", "has_cpuid", "registers_of"]

#: "IntelTDX    " in EBX, EDX, ECX.
_INTEL_TDX = (0, 0x6574_6E49, 0x2020_2020, 0x5844_546C)


def has_cpuid(snapshot: Snapshot) -> bool:
    """Does the snapshot tell enough of the CPUs to run a kernel's code on them as they are?"""
    return bool(snapshot.cpus) and all(
        cpu.cpuid.vendor is not None and cpu.cpuid.max_extended_leaf is not None
        for cpu in snapshot.cpus
    )


def asked_of(machine: Machine) -> tuple[Hashable, ...]:
    """All of a machine that its registers depend on, beside what was observed of it."""
    return (
        _facts(machine),
        machine.max_extended_leaf,
        machine.sme_bit_unchecked,
        machine.sev_es_guest,
        machine.snp_guest,
        machine.tdx_guest,
        machine.tdx_host_enabled,
    )


def registers_of(machine: Machine, snapshot: Snapshot, *, seamcalled: bool) -> list[RawMachine]:
    """What the kernel's code can ask of this machine.

    Args:
        machine: All listed facts.
        snapshot: What was observed of it.
        seamcalled: Both CPUs made a SEAMCALL.

    Returns:
        One, or one for each hypervisor that it may run under, as kernels do not go the same way
        into the next one under all of them.
    """
    jumping, secondary = _cpuids(machine, snapshot)
    as_told = RawMachine(
        jumping=jumping,
        secondary=secondary,
        msr=_msr(machine, snapshot),
        mem_encrypt=machine.mem_encrypt,
        snp_host=machine.snp_host,
        seamcalled=seamcalled,
    )
    if not machine.hypervisor or names_itself(jumping):
        return [as_told]
    name = hypervisor_name(snapshot)
    return [
        replace(as_told, jumping=_under(jumping, leaf), secondary=_under(secondary, leaf))
        for leaf in signatures(name)
    ]


def _under(table: CpuidTable, leaf: Registers) -> CpuidTable:
    """The table, with a hypervisor's leaf."""
    return type(table)({**table.leaves, (HYPERVISOR_LEAF, 0): leaf})


def _cpuids(machine: Machine, snapshot: Snapshot) -> tuple[CpuidTable, CpuidTable]:
    """Of the jumping CPU and of a secondary."""
    if has_cpuid(snapshot):
        cpus = snapshot.cpus
        # A kexec moves to CPU 0 unless reboot= names another (linux 7.3.4 kernel/reboot.c:260
        # migrate_to_reboot_cpu(), called at kernel/kexec_core.c:1193).
        jumping, secondary = cpus[0].cpuid, cpus[min(1, len(cpus) - 1)].cpuid
        return _with_facts(jumping, machine), _with_facts(secondary, machine)
    # A machine whose CPUID nobody saw is run as the smallest one that answers as its facts say. Its
    # other registers are not known, but no rule that is believed depends on them: a site that does
    # is unknown on every machine (`staleline.kernel.influence.doubts`).
    least = raw_machine(_facts(machine)).jumping
    table = _as_tdx_guest(least) if machine.tdx_guest else least
    return table, table


def _as_tdx_guest(table: CpuidTable) -> CpuidTable:
    """With the leaf that a TDX guest knows itself by (linux 7.3.4 arch/x86/coco/tdx/tdx.c)."""
    _, ebx, ecx, edx = table.leaves[0, 0]
    own = {(0, 0): (TDX_GUEST_LEAF, ebx, ecx, edx), (TDX_GUEST_LEAF, 0): _INTEL_TDX}
    return type(table)({**table.leaves, **own})


def _with_facts(table: CpuidTable, machine: Machine) -> CpuidTable:
    """The table, with the listed facts that other evidence tells better than CPUID."""
    bits = (
        ((0x1, 0), 2, 31, machine.hypervisor),
        ((ENCRYPTION_LEAF, 0), 0, 0, machine.sme_supported),
        ((ENCRYPTION_LEAF, 0), 0, 1, machine.sev_supported),
    )
    # A dump may be of the machine below: a process in a Xen PV domain reads that, where the kernel
    # asks Xen (linux 7.3.4 arch/x86/xen/enlighten_pv.c xen_cpuid()).
    changed: dict[tuple[int, int], Registers] = {}
    for leaf, register, bit, value in bits:
        registers = changed.get(leaf) or table.leaves.get(leaf)
        # What was not dumped has no bits to set; what depends on it is unknown.
        if registers is None:
            continue
        told = _with_bit(registers[register], bit, value)
        if told != registers[register]:
            changed[leaf] = _with_register(registers, register, told)
    return CpuidTable({**table.leaves, **changed}) if changed else table


def _with_register(registers: Registers, number: int, value: int) -> Registers:
    eax, ebx, ecx, edx = (
        value if index == number else register for index, register in enumerate(registers)
    )
    return eax, ebx, ecx, edx


def _facts(machine: Machine) -> RawFacts:
    """What CPUID says of them."""
    leaf = machine.max_extended_leaf >= ENCRYPTION_LEAF
    return RawFacts(
        vendor=machine.vendor,
        leaf=leaf,
        sme=machine.sme_supported if leaf else machine.sme_bit_unchecked,
        sev=machine.sev_supported,
        hypervisor=machine.hypervisor,
        sme_enabled=machine.sme_enabled,
        sev_status=machine.sev_guest,
        mem_encrypt=machine.mem_encrypt,
        snp_host=machine.snp_host,
    )


def _msr(machine: Machine, snapshot: Snapshot) -> Mapping[int, int]:
    """The observed MSRs, with the bits that this machine has set or cleared."""
    msr = dict(snapshot.cpus[0].msr) if snapshot.cpus else {}
    # Names in linux 7.3.4 arch/x86/include/asm/msr-index.h:712-716, 868-871: MEM_ENCRYPT and
    # SNP_EN of SYSCFG; SEV, SEV_ES and SEV_SNP of SEV_STATUS.
    bits = (
        (SYSCFG, 23, machine.sme_enabled),
        (SYSCFG, 24, machine.snp_host),
        (SEV_STATUS, 0, machine.sev_guest),
        (SEV_STATUS, 1, machine.sev_es_guest),
        (SEV_STATUS, 2, machine.snp_guest),
    )
    for number, bit, value in bits:
        msr[number] = _with_bit(msr.get(number, 0), bit, value)
    if machine.tdx_host_enabled:
        # Bits 63:32 count private KeyIDs; two are the fewest that TDX starts with (linux 7.3.4
        # arch/x86/virt/vmx/tdx/tdx.c:1438, 1549).
        msr.setdefault(TDX_KEYIDS, 2 << 32)
    return msr


def _with_bit(value: int, bit: int, on: bool) -> int:
    return value | 1 << bit if on else value & ~(1 << bit)

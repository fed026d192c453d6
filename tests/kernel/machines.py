# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines to put to kernels: real CPUID dumps, and what firmware may have set on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from staleline.evidence.detect import read_snapshot
from staleline.evidence.registers import CpuidTable, Registers
from staleline.kernel.boot.decision import RawMachine

__all__ = ["DUMPS", "SYSCFG", "Facts", "corpus", "cpuid", "every_setting", "facts_of", "with_leaf"]

SYSCFG = 0xC001_0010
SEV_STATUS = 0xC001_0131
MEM_ENCRYPT_ENABLED = 1 << 23
HYPERVISOR = 1 << 31

_CPUID = Path(__file__).parents[1] / "data" / "cpuid"
DUMPS = {
    "Naples": "libcpuid/amd-epyc-7551p-32-core-processor.test",
    "Rome": "libcpuid/amd-epyc-7742-64-core-processor-dual.test",
    "Milan": "libcpuid/amd-epyc-7763-64-core-processor-dual.test",
    "Genoa": "libcpuid/amd-epyc-9654-96-core-processor-dual.test",
    "Turin": "libcpuid/amd-epyc-9965-192-core-processor-dual.test",
    "Cezanne": "libcpuid/amd-ryzen-7-5800h-with-radeon-graphics.test",
    "Raphael": "libcpuid/amd-ryzen-5-7600x-6-core-processor.test",
    "Hygon C86 3250": "registers/hygon-c86-3250.cpuid",
    "Hygon C86 7185": "libcpuid/hygon-c86-7185-32-core-processor.test",
    "Sapphire Rapids": "libcpuid/intel-xeon-w9-3475x.test",
    "Nehalem": "libcpuid/intel-xeon-cpu-e5520.test",
    "K8": "libcpuid/amd-athlon-64-processor-3200+.test",
    "Rome guest": "libcpuid/amd-epyc-7742-64-core-processor-dual.test",
}


@dataclass(frozen=True)
class Facts:
    """What a kernel may look at, named as in the kernel's sources."""

    vendor: str | None
    leaf: bool  # extended_cpuid_level >= 0x8000001f
    sme: bool  # CPUID 0x8000001f EAX[0]
    sev: bool  # CPUID 0x8000001f EAX[1]
    hypervisor: bool  # CPUID 1 ECX[31]
    enabled: bool  # MSR_AMD64_SYSCFG_MEM_ENCRYPT
    mem_encrypt: bool  # mem_encrypt=on
    sev_status: bool  # MSR_AMD64_SEV_ENABLED


@cache
def cpuid(name: str) -> CpuidTable:
    """Logical CPU 0 of a dump."""
    table = read_snapshot(_CPUID / DUMPS[name]).cpus[0].cpuid
    if name.endswith("guest"):
        eax, ebx, ecx, edx = table.leaves[1, 0]
        return with_leaf(table, 1, (eax, ebx, ecx | HYPERVISOR, edx))
    return table


@cache
def corpus() -> tuple[tuple[str, CpuidTable], ...]:
    """Name and logical CPU 0 of every dump that is kept as plain text."""
    files = sorted(_CPUID.glob("libcpuid/*.test")) + sorted(_CPUID.glob("registers/*.cpuid"))
    return tuple((file.stem, read_snapshot(file).cpus[0].cpuid) for file in files)


def with_leaf(table: CpuidTable, leaf: int, registers: Registers | None) -> CpuidTable:
    """The same CPU with another answer for one leaf, or without it."""
    others = {key: value for key, value in table.leaves.items() if key[0] != leaf}
    return CpuidTable(others if registers is None else {**others, (leaf, 0): registers})


def every_setting(table: CpuidTable) -> Iterator[RawMachine]:
    """SYSCFG[23], ``mem_encrypt=`` and SEV_STATUS[0], each off and on."""
    for enabled, mem_encrypt, sev in itertools.product((False, True), repeat=3):
        msr = {SYSCFG: MEM_ENCRYPT_ENABLED * enabled, SEV_STATUS: int(sev)}
        yield RawMachine(table, table, msr, mem_encrypt)


def facts_of(machine: RawMachine) -> Facts:
    """The facts of the jumping CPU."""
    table = machine.jumping
    level = table.max_extended_leaf
    features = table.read(1)
    assert level is not None
    assert features is not None
    encryption = (table.read(0x8000_001F) or (0,))[0] if level >= 0x8000_001F else 0
    return Facts(
        vendor=table.vendor,
        leaf=level >= 0x8000_001F,
        sme=bool(encryption & 1),
        sev=bool(encryption & 2),
        hypervisor=bool(features[2] & HYPERVISOR),
        enabled=bool(machine.msr.get(SYSCFG, 0) & MEM_ENCRYPT_ENABLED),
        mem_encrypt=machine.mem_encrypt,
        sev_status=bool(machine.msr.get(SEV_STATUS, 0) & 1),
    )

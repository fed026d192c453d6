# SPDX-License-Identifier: GPL-2.0-or-later
"""Two observations that cannot be of one machine are refused with both fields named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.consistency import require_consistent
from staleline.evidence.detect import read_snapshot
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import CpuEvidence, CpuinfoEvidence, Snapshot, StateEvidence

DATA = Path(__file__).parents[1] / "data" / "cpuid"


def dump(name: str) -> Snapshot:
    return read_snapshot(DATA / "libcpuid" / name)


MILAN = dump("amd-epyc-7763-64-core-processor-dual.test")
RAPIDS = read_snapshot(DATA / "full/intel-xeon-w9-3475x.test.xz")


def with_leaf(cpu: CpuEvidence, leaf: int, registers: Registers) -> CpuEvidence:
    return replace(cpu, cpuid=CpuidTable({**cpu.cpuid.leaves, (leaf, 0): registers}))


def contradiction_in(snapshot: Snapshot) -> str:
    with pytest.raises(EvidenceError) as caught:
        require_consistent(snapshot, "file")
    message = str(caught.value)
    assert message.endswith("; give evidence of one machine, taken in one go")
    return message


def test_two_vendors() -> None:
    message = contradiction_in(Snapshot(cpus=(MILAN.cpus[0], RAPIDS.cpus[0])))
    assert "cpus[0].cpuid.0x00000000:0 (vendor) is 'AuthenticAMD'" in message
    assert "cpus[1].cpuid.0x00000000:0 (vendor) is 'GenuineIntel'" in message


@pytest.mark.parametrize(
    ("registers", "field"),
    [
        ((0x0001FC3E, 0x4173, 0, 0), "EAX[0] (SME)"),
        ((0x0001F83F, 0x4173, 0, 0), "EAX[10] (coherency enforced)"),
        ((0x0001FC3F, 0x416F, 0, 0), "EBX[5:0] (C-bit position)"),
    ],
)
def test_cpus_that_differ_in_memory_encryption(registers: Registers, field: str) -> None:
    first = MILAN.cpus[0]
    second = with_leaf(first, 0x8000001F, registers)
    message = contradiction_in(Snapshot(cpus=(first, first, second)))
    assert f"cpus[0].cpuid.0x8000001f:0 {field}" in message
    assert f"cpus[2].cpuid.0x8000001f:0 {field}" in message


def test_edx_of_0x8000001f_differs_between_the_cpus_of_one_machine() -> None:
    first = MILAN.cpus[0]
    leaf = first.cpuid.recorded(0x8000001F)
    assert leaf is not None
    second = with_leaf(first, 0x8000001F, (*leaf[:3], leaf[3] + 1))
    assert require_consistent(Snapshot(cpus=(first, second)), "file") is None


def test_data_beyond_the_maximum_that_amd_never_answers() -> None:
    old = dump("amd-athlon-xp.test").cpus[0]
    message = contradiction_in(Snapshot(cpus=(with_leaf(old, 0x8000001F, (1, 0x16F, 0, 0)),)))
    assert "cpus[0].cpuid.0x8000001f:0 has EAX=0x00000001" in message
    assert "cpus[0].cpuid.0x80000000:0 says the highest leaf is 0x80000008" in message


def test_phantom_data_beyond_the_maximum_is_what_intel_answers() -> None:
    machine = dump("intel-core-i7-cpu-920.test")
    assert machine.cpus[0].cpuid.recorded(0x8000001F) == (1, 2, 0x100, 3)
    assert require_consistent(machine, "file") is None


def test_cpuinfo_of_another_vendor() -> None:
    message = contradiction_in(replace(MILAN, cpuinfo=CpuinfoEvidence(vendor="GenuineIntel")))
    assert "cpuinfo.vendor is 'GenuineIntel'" in message
    assert "cpus[0].cpuid.0x00000000:0 says 'AuthenticAMD'" in message


@pytest.mark.parametrize("name", ["family", "model", "stepping"])
def test_cpuinfo_of_another_cpu(name: str) -> None:
    cpuinfo = replace(CpuinfoEvidence(family=25, model=1, stepping=1), **{name: 99})
    message = contradiction_in(replace(MILAN, cpuinfo=cpuinfo))
    assert f"cpuinfo.{name} is 99 and cpus[0].cpuid.0x00000001:0 says {name}" in message


def test_a_cpuinfo_flag_that_the_hardware_lacks() -> None:
    cpuinfo = CpuinfoEvidence(flags=frozenset({"sme"}))
    message = contradiction_in(replace(RAPIDS, cpuinfo=cpuinfo))
    assert "cpuinfo.flags holds 'sme' and cpus[0].cpuid.0x8000001f:0 EAX[0] is clear" in message


def test_a_cpuinfo_flag_that_linux_cleared_is_no_contradiction() -> None:
    cpuinfo = CpuinfoEvidence(vendor="AuthenticAMD", family=25, model=1, stepping=1)
    assert require_consistent(replace(MILAN, cpuinfo=cpuinfo), "file") is None


def test_sme_active_without_sme() -> None:
    message = contradiction_in(replace(RAPIDS, state=StateEvidence(sme_active=True)))
    assert "state.sme_active is true and cpus[0].cpuid.0x8000001f:0 EAX[0] says no SME" in message


def test_sme_active_although_firmware_left_it_disabled() -> None:
    cpu = replace(MILAN.cpus[0], msr={0xC0010010: 0x740000})
    message = contradiction_in(Snapshot(cpus=(cpu,), state=StateEvidence(sme_active=True)))
    assert "state.sme_active is true and cpus[0].msr.0xc0010010 bit 23 is clear" in message


def test_a_tdx_module_on_amd() -> None:
    message = contradiction_in(replace(MILAN, state=StateEvidence(tdx_module="initialized")))
    assert "state.tdx_module is 'initialized' and cpus[0].cpuid.0x00000000:0" in message

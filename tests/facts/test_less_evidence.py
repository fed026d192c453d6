# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking evidence away may make a fact unknown; it never makes it another value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.evidence.detect import read_snapshot
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    Snapshot,
    StateEvidence,
)
from staleline.facts import from_snapshot

DATA = Path(__file__).parents[1] / "data" / "cpuid"

_AMD_MSRS = {0xC0010010: 0xF40000, 0xC0010131: 0}
_INTEL_MSRS = {0x982: 1 << 36 | 6 << 32 | 0b11, 0x87: 32 << 32 | 31}


def _full(name: str, flags: frozenset[str], msr: dict[int, int]) -> Snapshot:
    """A dump with everything else a host can tell, without contradiction."""
    machine = read_snapshot(DATA / name)
    cpuid = machine.cpus[0].cpuid
    family, model, stepping = cpuid.family_model_stepping or (0, 0, 0)
    return Snapshot(
        cpus=(CpuEvidence(cpuid, msr), CpuEvidence(cpuid, msr)),
        cpuinfo=CpuinfoEvidence(cpuid.vendor, family, model, stepping, flags),
        kernel=KernelEvidence("6.12", "mem_encrypt=off", {"CONFIG_AMD_MEM_ENCRYPT": "y"}),
        state=StateEvidence(False, "initialized" if 0x87 in msr else None, None, False, (3,), 1),
    )


FULL = {
    "Rome": _full(
        "libcpuid/amd-epyc-7742-64-core-processor-dual.test",
        frozenset({"sev", "wbnoinvd"}),
        _AMD_MSRS,
    ),
    "Genoa": _full(
        "libcpuid/amd-epyc-9124-16-core-processor.test", frozenset({"sme", "sev"}), _AMD_MSRS
    ),
    "Nehalem": _full("libcpuid/intel-core-i7-cpu-920.test", frozenset({"ss"}), {}),
    "Emerald Rapids": _full(
        "full/intel-xeon-platinum-8570.test.xz", frozenset({"tme", "ss", "movdir64b"}), _INTEL_MSRS
    ),
    "Zhaoxin": _full("libcpuid/zhaoxin-kaisheng-kh-40000.test", frozenset(), {}),
}


@pytest.mark.parametrize("name", FULL)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_less_evidence_gives_the_same_value_or_none(name: str, data: st.DataObject) -> None:
    full = FULL[name]
    less = _less(full, data)
    values = {fact.name: fact.value for fact in from_snapshot(full)}
    for fact in from_snapshot(less):
        assert fact.value is None or values[fact.name] in (fact.value, None), fact


def _less(full: Snapshot, data: st.DataObject) -> Snapshot:
    kept_kernel = data.draw(st.sampled_from([full.kernel, KernelEvidence()]))
    kept_state = data.draw(st.sampled_from([full.state, StateEvidence()]))
    return replace(
        full,
        cpus=tuple(_less_of(cpu, data) for cpu in full.cpus if data.draw(st.booleans())),
        cpuinfo=data.draw(st.sampled_from([full.cpuinfo, None])),
        kernel=kept_kernel,
        state=kept_state,
    )


def _less_of(cpu: CpuEvidence, data: st.DataObject) -> CpuEvidence:
    keys = sorted(cpu.cpuid.leaves)
    # Leaves that decide what others mean go missing as often as not.
    telling = [(0, 0), (1, 0), (7, 0), (0x80000000, 0), (0x8000001F, 0)]
    lost = set(data.draw(st.lists(st.sampled_from(keys), max_size=len(keys))))
    lost |= set(data.draw(st.lists(st.sampled_from(telling), max_size=3)))
    leaves = {key: value for key, value in cpu.cpuid.leaves.items() if key not in lost}
    msr = {number: value for number, value in cpu.msr.items() if data.draw(st.booleans())}
    return CpuEvidence(CpuidTable(leaves), msr)

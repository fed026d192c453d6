# SPDX-License-Identifier: GPL-2.0-or-later
"""What tools and flags tell beside the registers: believed where these are silent, else told."""

from __future__ import annotations

import pytest

from staleline.evidence.consistency import contradictions, require_consistent
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    Snapshot,
    Statement,
)
from staleline.facts import from_snapshot

_AMD = (0x10, 0x68747541, 0x444D4163, 0x69746E65)
_INTEL = (0x21, 0x756E6547, 0x6C65746E, 0x49656E69)
_BARE = (0x00830F10, 0, 0, 0)


def _cpu(vendor: tuple[int, int, int, int], msr: dict[int, int] | None = None) -> CpuEvidence:
    return CpuEvidence(CpuidTable({(0, 0): vendor, (1, 0): _BARE}), msr=msr or {})


@pytest.mark.parametrize("name", ["Xen", "KVM", "Hyper-V"])
def test_a_hypervisor_with_a_name_is_one_although_its_bit_is_clear(name: str) -> None:
    said = (Statement("hypervisor_name", name, "a tool"),)
    assert from_snapshot(Snapshot((_cpu(_AMD),), statements=said))["hypervisor"].value is True


def test_none_is_no_hypervisors_name() -> None:
    said = (Statement("hypervisor_name", "none", "a tool"),)
    assert from_snapshot(Snapshot((_cpu(_AMD),), statements=said))["hypervisor"].value is False


@pytest.mark.parametrize(
    ("rows", "hypervisor"),
    [
        ("Hypervisor vendor: Xen\nVirtualization type: none\n", True),
        ("Hypervisor vendor: Xen\n", True),
        ("Hypervisor vendor: Microsoft\n", True),
        # util-linux 2.38.1 sys-utils/lscpu-virt.c: a container may run on the bare machine.
        ("Hypervisor vendor: OpenVZ\nVirtualization type: container\n", None),
        ("Hypervisor vendor: OpenVZ\n", None),
    ],
)
def test_lscpus_hypervisor_counts_without_its_kind(rows: str, hypervisor: bool | None) -> None:
    machine = parse_snapshot(f"Architecture: x86_64\nVendor ID: AuthenticAMD\n{rows}", "file")
    assert from_snapshot(machine)["hypervisor"].value is hypervisor


@pytest.mark.parametrize("name", ["sev_guest", "sev_es_guest", "snp_guest"])
def test_a_tool_that_denies_a_register_is_a_contradiction(name: str) -> None:
    cpu = _cpu(_AMD, {0xC001_0131: 0})
    for value in (True, False):
        machine = Snapshot((cpu,), statements=(Statement(name, value, "a tool"),))
        assert bool(contradictions(machine)) is value


def test_the_flag_of_a_tdx_guest_tells_it() -> None:
    shown = CpuinfoEvidence(vendor="GenuineIntel", flags=frozenset({"tdx_guest"}))
    machine = Snapshot((), cpuinfo=shown, kernel=KernelEvidence(release="6.12.117"))
    assert from_snapshot(machine)["tdx_guest"].value is True
    forced = Snapshot((), cpuinfo=shown, kernel=KernelEvidence(cmdline="setcpuid=tdx_guest"))
    assert from_snapshot(forced)["tdx_guest"].value is None


def test_the_flag_of_a_tdx_guest_is_intels() -> None:
    shown = CpuinfoEvidence(vendor="AuthenticAMD", flags=frozenset({"tdx_guest"}))
    kernel = KernelEvidence(cmdline="quiet")
    with pytest.raises(ContradictionError, match="flag-of-another-vendor"):
        require_consistent(Snapshot((), cpuinfo=shown, kernel=kernel), "file")

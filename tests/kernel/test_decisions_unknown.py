# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel does is unknown where the machine or the image does not tell enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.evidence.registers import CpuidTable
from staleline.kernel.decision import Decision, RawMachine
from staleline.kernel.image import KernelImage, load_image
from staleline.kernel.reader import KernelReader
from staleline.kernel.traps import DECISIVE_LEAVES
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SEV_STATUS, SYSCFG, cpuid, with_leaf

ENABLED = {SYSCFG: MEM_ENCRYPT_ENABLED}


@pytest.fixture(scope="module")
def image(real_kernels) -> KernelImage:
    return load_image(real_kernels["6.12"].path)


@pytest.fixture(scope="module")
def reader(image) -> KernelReader:
    return KernelReader(image)


def assert_unknown(decision: Decision, reason: str) -> None:
    for site in (decision.stop_this_cpu, decision.relocate_kernel):
        assert site.flushes is None
        assert reason in site.unknown
    assert decision.reported_stopped is None
    assert decision.sme_active is None


@pytest.mark.parametrize("leaf", sorted(DECISIVE_LEAVES))
def test_a_decisive_leaf_that_no_dump_recorded(reader, leaf):
    table = with_leaf(cpuid("Rome"), leaf, None)
    decision = reader.decide(RawMachine(table, table, ENABLED, True))
    assert_unknown(decision, f"CPUID leaf {leaf:#x} of CPU ")
    assert "is not recorded" in decision.stop_this_cpu.unknown


def test_the_secondary_counts_too(reader):
    rome = cpuid("Rome")
    decision = reader.decide(RawMachine(rome, with_leaf(rome, 0x8000_001F, None), ENABLED, True))
    assert_unknown(decision, "CPUID leaf 0x8000001f of CPU 1 is not recorded")


def test_a_dump_of_nothing(reader):
    assert_unknown(reader.decide(RawMachine(CpuidTable({}), CpuidTable({}))), "leaf 0x0 of CPU 0")


@pytest.mark.parametrize("leaf", [0xB, 0xD, 0x8000_0008, 0x8000_001D, 0x8000_001E])
def test_other_leaves_may_be_missing(reader, leaf):
    """Topology and sizes decide nothing here."""
    table = with_leaf(cpuid("Rome"), leaf, None)
    decision = reader.decide(RawMachine(table, table, ENABLED, True))
    assert decision.stop_this_cpu.flushes is True
    assert decision.relocate_kernel.flushes is True


def test_an_snp_guest_is_not_modelled(real_kernels):
    """``sme_enable()`` ends a guest that firmware gave no CC blob (boot/startup/sme.c, 7.3)."""
    table = cpuid("Milan")
    reader = KernelReader(load_image(real_kernels["7"].path))
    decision = reader.decide(RawMachine(table, table, {SEV_STATUS: 0b111}))
    assert_unknown(decision, "__pi_sme_enable() on CPU 0 did not return: ")
    assert " at sev_es_terminate+0x" in decision.stop_this_cpu.unknown


@pytest.mark.parametrize(
    "name",
    [
        "early_cpu_init",
        "identify_cpu",
        "boot_cpu_data",
        "__per_cpu_start",
        "__per_cpu_offset",
        "stop_this_cpu",
        "machine_kexec",
        "vmemmap_base",
    ],
)
def test_an_image_without_a_symbol_that_is_needed(image, name):
    decision = KernelReader(replace(image, symbols=Without(image.symbols, name))).decide(
        RawMachine(cpuid("Rome"), cpuid("Rome"), ENABLED, True)
    )
    assert_unknown(decision, f"the image has no symbol {name}")


class Without:
    """A symbol table with one name taken out."""

    def __init__(self, symbols, name):
        self._symbols = symbols
        self._name = name

    def __contains__(self, name):
        return name != self._name and name in self._symbols

    def address(self, name):
        return None if name == self._name else self._symbols.address(name)

    def addresses(self, name):
        return () if name == self._name else self._symbols.addresses(name)

    def enclosing(self, address):
        return self._symbols.enclosing(address)

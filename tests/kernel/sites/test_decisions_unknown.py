# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel does is unknown where the machine or the image does not tell enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.evidence.registers import CpuidTable
from staleline.kernel.boot.decision import Decision, RawMachine
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.traps import DECISIVE_LEAVES
from staleline.kernel.image.configuration import is_for_one_cpu, require_kexec_of_several_cpus
from staleline.kernel.image.image import KernelImage
from staleline.kernel.image.symbols import SymbolTable
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import ReportOrder
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid, with_leaf

ENABLED = {SYSCFG: MEM_ENCRYPT_ENABLED}


@pytest.fixture(scope="module")
def image(real_kernels) -> KernelImage:
    return real_kernels["6.12"].image


@pytest.fixture(scope="module")
def reader(image) -> KernelReader:
    return KernelReader(image)


def assert_unknown(decision: Decision, reason: str) -> None:
    for site in (decision.stop_this_cpu, decision.relocate_kernel):
        assert site.flushes is None
        assert reason in (site.unknown or "")
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
    ],
)
def test_an_image_without_a_symbol_that_is_needed(image, name):
    decision = KernelReader(replace(image, symbols=Without(image.symbols, name))).decide(
        RawMachine(cpuid("Rome"), cpuid("Rome"), ENABLED, True)
    )
    assert_unknown(decision, f"the image has no symbol {name}")


def test_a_kernel_built_without_memory_encryption(image):
    """CONFIG_AMD_MEM_ENCRYPT=n leaves no trace of it; SME is then never active."""
    names = ("sme_me_mask", "sev_status", "sme_enable")
    reader = KernelReader(replace(image, symbols=Without(image.symbols, *names)))
    decision = reader.decide(RawMachine(cpuid("Rome"), cpuid("Rome"), ENABLED, True))
    assert decision.sme_active is False


@pytest.mark.parametrize("name", ["sme_me_mask", "sev_status"])
def test_an_image_that_does_not_name_the_mask(image, name):
    """The code runs all the same, but what it derived cannot be read back."""
    reader = KernelReader(replace(image, symbols=Without(image.symbols, name)))
    decision = reader.decide(RawMachine(cpuid("Rome"), cpuid("Rome"), ENABLED, True))
    assert decision.sme_active is None
    assert decision.relocate_kernel.flushes is True


def test_a_report_that_is_a_counter(image):
    """In postings of commit 1f5e7eb7868e secondaries counted ``stop_cpus_count`` down."""
    address = image.symbols.address("cpus_stop_mask")
    symbols = Without(image.symbols, "cpus_stop_mask", stop_cpus_count=address)
    reader = KernelReader(replace(image, symbols=symbols))
    decision = reader.decide(RawMachine(cpuid("Rome"), cpuid("Rome"), ENABLED, True))
    assert decision.reported_stopped is ReportOrder.AFTER_FLUSH


_OF_KEXEC = (
    "kernel_kexec",
    "kimage_free",
    "machine_kexec",
    "machine_kexec_prepare",
    "relocate_kernel",
)
_OF_SMP = ("native_stop_other_cpus", "smp_ops", "start_secondary", "native_kick_ap")


def test_a_kernel_without_kexec_is_not_answered_for(image):
    reader = KernelReader(replace(image, symbols=Without(image.symbols, *_OF_KEXEC)))
    decision = reader.decide(RawMachine(cpuid("Rome"), cpuid("Rome"), ENABLED, True))
    for site in (decision.stop_this_cpu, decision.relocate_kernel, decision.crash_nmi_callback):
        assert site.flushes is None
        assert "this kernel was built without kexec" in (site.unknown or "")


def test_a_kernel_for_one_cpu_is_known_by_all_that_it_lacks(image):
    without = Without(image.symbols, *_OF_SMP)
    assert is_for_one_cpu(without)
    with pytest.raises(DerivationError, match="was built for one CPU"):
        require_kexec_of_several_cpus(without)
    for present in _OF_SMP[:-1]:
        others = (name for name in _OF_SMP if name != present)
        assert not is_for_one_cpu(Without(image.symbols, *others))


@pytest.mark.parametrize("name", ["machine_kexec", "start_secondary"])
def test_one_missing_function_does_not_say_how_a_kernel_was_built(image, name):
    """A linker may have put it into its caller."""
    reader = KernelReader(replace(image, symbols=Without(image.symbols, name)))
    decision = reader.decide(RawMachine(cpuid("Rome"), cpuid("Rome"), ENABLED, True))
    assert "was built" not in (decision.relocate_kernel.unknown or "")


class Without(SymbolTable):
    """A symbol table with some names taken out, and some put in."""

    def __init__(self, symbols: SymbolTable, *names: str, **added: int) -> None:
        super().__init__(symbols.sorted_addresses, symbols._names)
        self._symbols = symbols
        self._left_out = names
        self._added = added

    def address(self, name: str) -> int | None:
        if name in self._left_out:
            return None
        return self._added.get(name) or self._symbols.address(name)

    def only_address(self, name: str) -> int | None:
        return self.address(name)

    def addresses(self, name: str) -> tuple[int, ...]:
        if name in self._added:
            return (self._added[name],)
        return () if name in self._left_out else self._symbols.addresses(name)

    def size_of(self, name: str) -> int | None:
        return None if name in self._left_out else self._symbols.size_of(name)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A variable that is kept as it is: by its name, whatever a compiler made of that."""

from __future__ import annotations

import pytest

from staleline.kernel.rerun.fixedinputs import (
    FIXED_AT_SITES,
    FIXED_CALLS,
    FIXED_IN_CRASH,
    FIXED_IN_DERIVATION,
    FIXED_ON_WAY,
    fixed_bits,
    is_fixed,
)

TABLES = (FIXED_AT_SITES, FIXED_IN_CRASH, FIXED_ON_WAY, FIXED_IN_DERIVATION)


@pytest.mark.parametrize(
    "name",
    # gcc numbers a static variable of a function, clang puts the function in front.
    ["cpus_stopped", "cpus_stopped.1", "nmi_shootdown_cpus.cpus_stopped", "per-CPU cpus_stopped",
     "cpus_stopped+0x0"],
)  # fmt: skip
def test_a_compilers_names_are_the_sources(name: str) -> None:
    assert is_fixed(FIXED_IN_CRASH, name, 4)


def test_a_place_in_a_variable_is_not_the_whole_variable() -> None:
    # cpu_number of struct pcpu_hot (linux 6.2 to 6.14): what lies beside it decides.
    assert is_fixed(FIXED_AT_SITES, "per-CPU pcpu_hot+0xc", 4)
    assert not is_fixed(FIXED_AT_SITES, "per-CPU pcpu_hot", 8)
    assert not is_fixed(FIXED_AT_SITES, "per-CPU pcpu_hot+0x8", 4)


@pytest.mark.parametrize(
    ("table", "within", "behind"),
    [
        # struct smp_ops has 13 functions (linux 7.3.4 arch/x86/include/asm/smp.h).
        (FIXED_CALLS, "smp_ops+0x60", "smp_ops+0x80"),
        (FIXED_CALLS, "apic_physflat+0x98", "apic_physflat+0x2000"),
        (FIXED_AT_SITES, "init_task+0x900", "init_task+0x4000"),
        (FIXED_ON_WAY, "per-CPU cpu_number", "per-CPU cpu_number+0x400"),
        (FIXED_IN_DERIVATION, "__cpu_present_mask+0x3f8", "__cpu_present_mask+0x400"),
    ],
)
def test_what_has_no_name_is_not_part_of_what_lies_before(table, within, behind) -> None:
    """Kernels without CONFIG_KALLSYMS_ALL name few of their data: `smp_ops` is exported."""
    assert is_fixed(table, within, 8)
    assert not is_fixed(table, behind, 8)


def test_only_reads_of_one_size_may_be_meant() -> None:
    # The byte behind the vendor's name in boot_cpu_data, which nothing writes.
    assert is_fixed(FIXED_IN_DERIVATION, "boot_cpu_data", 1)
    assert not is_fixed(FIXED_IN_DERIVATION, "boot_cpu_data", 4)


def test_the_features_of_guests_are_fixed_on_hosts_only() -> None:
    # Bit 0 of SEV_STATUS says that this is a guest (AMD APM volume 2, 15.34.10).
    assert fixed_bits(FIXED_AT_SITES, "sev_status", 0) == ~1
    assert fixed_bits(FIXED_AT_SITES, "sev_status", 1) == 0
    assert not is_fixed(FIXED_AT_SITES, "sev_status", 8)


@pytest.mark.parametrize(
    "name", ["cache_state_incoherent", "sme_me_mask", "cc_vendor", "kexec_in_progress"]
)
@pytest.mark.parametrize(
    "table", [FIXED_AT_SITES, FIXED_IN_CRASH, FIXED_ON_WAY, FIXED_IN_DERIVATION]
)
def test_what_guards_are_made_of_is_never_fixed(table: dict[str, object], name: str) -> None:
    # linux 7.3.4 arch/x86/kernel/process.c:841, machine_kexec_64.c:433, smp.c:165.
    assert name not in table


def test_every_reason_is_a_phrase() -> None:
    for table in TABLES:
        for fixed in table.values():
            assert fixed.reason
            assert not fixed.reason.endswith(".")
            assert not fixed.unless & fixed.bits

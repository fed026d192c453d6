# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel can ask is listed, structural, or free to be turned over: each bit is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.evidence.registers import CpuidTable
from staleline.hardware import ENCRYPTION_LEAF, SEV_STATUS, SYSCFG, TDX_KEYIDS
from staleline.kernel.emulator.traps import TIME
from staleline.kernel.rerun.inputs import (
    REAL_SIGNATURES,
    Register,
    VariedCpu,
    free_bits,
    listed_bits,
    listed_mask,
    only,
    random_flips,
)

REGISTERS = st.one_of(
    st.builds(Register, st.sampled_from((0, 1, 7, 0xB, 0x8000_0000, ENCRYPTION_LEAF)), st.just(0),
              st.integers(0, 3)),
    st.builds(Register, st.sampled_from((SYSCFG, SEV_STATUS, TDX_KEYIDS, 0x10, 0x1B)), st.none()),
)  # fmt: skip


@pytest.mark.parametrize(
    ("register", "bits"),
    [
        # MSR_AMD64_SYSCFG_MEM_ENCRYPT_BIT (linux 7.3.4 arch/x86/include/asm/msr-index.h:868).
        (Register(SYSCFG, None), [23]),
        # MSR_AMD64_SEV_ENABLED and _ES_ENABLED (:712).
        (Register(SEV_STATUS, None), [0, 1]),
        # Private KeyIDs (linux 7.3.4 arch/x86/virt/vmx/tdx/tdx.c:1438).
        (Register(TDX_KEYIDS, None), list(range(32, 64))),
        # SME and SEV (linux 7.3.4 arch/x86/boot/startup/sme.c:507).
        (Register(ENCRYPTION_LEAF, 0, 0), [0, 1]),
        # X86_FEATURE_HYPERVISOR.
        (Register(1, 0, 2), [31]),
        # Vendor and highest leaf are listed as a whole: no bit of them by itself.
        (Register(0, 0, 1), []),
    ],
)
def test_which_bits_the_truth_table_is_over(register: Register, bits: list[int]) -> None:
    assert listed_bits(register) == bits


@given(REGISTERS)
def test_no_bit_is_listed_and_free(register: Register) -> None:
    assert not free_bits(register) & listed_mask(register)


@given(REGISTERS, st.integers(0, 1000))
def test_of_two_complementary_rounds_one_turns_each_free_bit_over(
    register: Register, seed: int
) -> None:
    half, rest = (random_flips(seed, complement=flag)(register) for flag in (False, True))
    assert half & rest == 0
    assert half | rest == free_bits(register)


def test_the_time_stamp_goes_on_whatever_is_turned_over() -> None:
    free = free_bits(Register(TIME, None))
    assert free
    # What a delay loop waits for lies between.
    assert not free >> 20 & ((1 << 20) - 1)


def varied(flips: dict[Register, int], msr: dict[int, int] | None = None) -> VariedCpu:
    table = CpuidTable({(0, 0): (7, 1, 2, 3), (1, 0): (4, 5, 6, 7)})
    return VariedCpu(0, table, msr or {}, flips=only(flips))


def test_an_answer_has_its_bits_turned_over_and_is_noted() -> None:
    ecx = Register(1, 0, 2)
    cpu = varied({ecx: 1 << 31})
    assert cpu.execute_cpuid(1, 0) == (4, 5, 6 | 1 << 31, 7)
    assert cpu.asked[ecx] == 1 << 31
    assert cpu.asked[Register(1, 0, 0)] == 0


def test_a_hosts_sev_status_says_nothing_of_what_guests_use() -> None:
    # The bits above say which features a guest has, which bit 0 says it is (AMD APM volume 2,
    # 15.34.10).
    features = {Register(SEV_STATUS, None): 0b1110}
    assert varied(features).read_msr(SEV_STATUS) == 0
    assert varied(features, {SEV_STATUS: 1}).read_msr(SEV_STATUS) == 0b1111


def test_a_register_is_called_as_manuals_do() -> None:
    assert str(Register(ENCRYPTION_LEAF, 0, 1)) == "CPUID 0x8000001f EBX"
    assert str(Register(0xB, 1, 2)) == "CPUID 0xb.0x1 ECX"
    assert str(Register(SYSCFG, None)) == "MSR 0xc0010010"


def family(signature: int) -> int:
    """Linux 7.3.4 arch/x86/lib/cpu.c x86_family()."""
    base = signature >> 8 & 0xF
    return base + (signature >> 20 & 0xFF if base == 0xF else 0)


def test_signatures_are_of_families_that_their_vendors_made() -> None:
    families = {vendor: {family(each) for each in REAL_SIGNATURES[vendor]} for vendor in
                REAL_SIGNATURES}  # fmt: skip
    assert families == {
        "AuthenticAMD": {0xF, 0x10, 0x15, 0x17, 0x19, 0x1A},
        "HygonGenuine": {0x18},
        "GenuineIntel": {0xF, 0x6},
    }

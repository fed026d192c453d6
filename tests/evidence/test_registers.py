# SPDX-License-Identifier: GPL-2.0-or-later
"""What executing CPUID returns, within and beyond the maximum leaf."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.registers import CpuidTable, Registers

LIBCPUID = Path(__file__).parents[1] / "data" / "cpuid" / "libcpuid"
INTEL: Registers = (0x1B, 0x756E6547, 0x6C65746E, 0x49656E69)
AMD: Registers = (0x10, 0x68747541, 0x444D4163, 0x69746E65)
CENTAUR: Registers = (0xD, 0x746E6543, 0x736C7561, 0x48727561)


def _has_extended_leaves_below_0x8000001f(path: Path) -> bool:
    cpuid = read_snapshot(path).cpus[0].cpuid
    return 0x80000000 <= (cpuid.max_extended_leaf or 0) < 0x8000001F


#: Dumps that hold the answer at leaf 0x8000001F of a CPU whose maximum is below it: libcpuid
#: executes CPUID for 32 extended leaves without looking at the maximum.
ANSWERED = sorted(
    path
    for path in LIBCPUID.iterdir()
    if "ext_cpuid[31]=" in path.read_text("latin-1") and _has_extended_leaves_below_0x8000001f(path)
)


def test_there_are_recorded_answers_of_both_vendors() -> None:
    vendors = {read_snapshot(path).cpus[0].cpuid.vendor for path in ANSWERED}
    assert vendors == {"GenuineIntel", "AuthenticAMD"}
    assert len(ANSWERED) == 25


@pytest.mark.parametrize("path", ANSWERED, ids=lambda path: path.stem)
def test_the_rule_for_leaves_beyond_the_maximum_is_what_real_cpus_answered(path: Path) -> None:
    cpuid = read_snapshot(path).cpus[0].cpuid
    assert cpuid.max_extended_leaf is not None
    assert cpuid.max_extended_leaf < 0x8000001F
    assert cpuid.read(0x8000001F) == cpuid.recorded(0x8000001F)


def test_a_leaf_beyond_the_maximum_is_the_highest_basic_leaf_on_intel() -> None:
    highest = (1, 2, 3, 4)
    cpuid = CpuidTable({(0, 0): INTEL, (0x1B, 0): highest, (0x80000000, 0): (0x80000008, 0, 0, 0)})
    assert cpuid.read(0x8000001F) == highest
    assert cpuid.read(0x1C, 7) == highest


def test_a_leaf_beyond_the_maximum_is_zero_on_amd() -> None:
    cpuid = CpuidTable({(0, 0): AMD, (0x80000000, 0): (0x80000008, 0, 0, 0)})
    assert cpuid.read(0x8000001F) == (0, 0, 0, 0)


def test_a_leaf_beyond_the_maximum_is_unknown_without_a_documented_rule() -> None:
    maximum = (0x80000008, 0, 0, 0)
    assert CpuidTable({(0, 0): CENTAUR, (0x80000000, 0): maximum}).read(0x8000001F) is None
    assert CpuidTable({(0x80000000, 0): maximum}).read(0x8000001F) is None


def test_a_leaf_within_the_maximum_that_was_not_recorded_is_unknown() -> None:
    cpuid = CpuidTable({(0, 0): INTEL, (0x80000000, 0): (0x80000020, 0, 0, 0)})
    assert cpuid.read(0x8000001F) is None
    assert cpuid.read(7) is None


def test_hypervisor_leaves_have_a_maximum_of_their_own() -> None:
    kvm = (0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D)
    cpuid = CpuidTable({(0, 0): AMD, (0x40000000, 0): kvm})
    assert cpuid.read(0x40000000) == kvm


def test_no_extended_leaves_at_all_is_a_maximum_of_zero() -> None:
    # Pentium II: CPUID 0x80000000 answers with leaf 2 (intel-pentium-ii-dixon.test).
    cpuid = read_snapshot(LIBCPUID / "intel-pentium-ii-dixon.test").cpus[0].cpuid
    assert cpuid.recorded(0x80000000) == cpuid.recorded(2)
    assert cpuid.max_extended_leaf == 0


@pytest.mark.parametrize(
    ("eax", "expected"),
    [
        (0x00830F10, (23, 49, 0)),  # Rome
        (0x000806F8, (6, 143, 8)),  # Sapphire Rapids
        (0x000307B0, (7, 59, 0)),  # Zhaoxin, as /proc/cpuinfo shows it
        (0x00000524, (5, 2, 4)),  # K5
    ],
)
def test_family_model_and_stepping_are_linux_s(eax: int, expected: tuple[int, int, int]) -> None:
    assert CpuidTable({(1, 0): (eax, 0, 0, 0)}).family_model_stepping == expected

# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of CPUID and MSR bits holds together."""

from __future__ import annotations

import pytest

from staleline.evidence.staleline_collect import MSRS
from staleline.facts.told.table import Bits, CpuidField, MsrField, register_facts


def test_names_are_unique_and_requirements_come_first() -> None:
    known = {"hypervisor"}
    for row in register_facts():
        assert row.name not in known
        assert {name for names in row.requires for name in names} <= known, row.name
        known.add(row.name)


def test_layers_are_told_by_their_registers() -> None:
    # What hardware can is in CPUID; what firmware enabled is in MSRs.
    for row in register_facts():
        assert isinstance(row.field, CpuidField if row.layer == "hardware" else MsrField), row.name


def test_values_that_stand_for_absence_have_the_type_of_the_field() -> None:
    for row in register_facts():
        if row.absent is not None:
            assert type(row.absent) is type(row.field.bits.of(0)), row.name


def test_every_msr_of_the_table_is_collected_from_the_vendors_it_is_for() -> None:
    for row in register_facts():
        if isinstance(row.field, MsrField):
            for vendor in row.vendors:
                assert row.field.number in MSRS[vendor], row.name


@pytest.mark.parametrize(
    ("bits", "register", "value"),
    [
        (Bits(10, 10), 0x400, True),
        (Bits(10, 10), 0xFFFFFBFF, False),
        (Bits(5, 0), 0x016F, 47),
        (Bits(11, 6), 0x016F, 5),
        (Bits(63, 32), 32 << 32 | 31, 32),
    ],
)
def test_bits(bits: Bits, register: int, value: bool | int) -> None:
    assert bits.of(register) == value
    assert type(bits.of(register)) is type(value)

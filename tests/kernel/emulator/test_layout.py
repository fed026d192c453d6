# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing is in two places of the emulated machine's memory."""

from __future__ import annotations

from itertools import pairwise

import pytest

from staleline.kernel.addresses import KERNEL_MAP
from staleline.kernel.boot.machine import SECONDARY
from staleline.kernel.emulator import layout
from staleline.kernel.emulator.kasan import shadow_of
from staleline.kernel.emulator.layout import (
    APIC,
    BOOT_PARAMS,
    CC_BLOB,
    CC_CPUID,
    CC_SECRETS,
    COMMAND_LINE,
    CONTROL_PAGES,
    DEFAULT_PAGE_OFFSET,
    DEFAULT_VMEMMAP,
    DESCRIPTORS,
    ENTRY_GATE,
    GATES,
    INTERRUPT_STACK,
    KIMAGE,
    PAGE,
    PAGE_STRUCTURES,
    RAM_SIZE,
    REGISTERS,
    RETURN_GATE,
    SECTION_ROOT,
    SECTION_ROOTS,
    SHADOW,
    SHADOW_RAM,
    SWAP_PAGE,
    per_cpu_area,
    stack_of,
)

CPUS = SECONDARY + 1
#: include/linux/mm_types.h, 5.10 to 7.3, as all distributions build it.
STRUCT_PAGE_SIZE = 64

AT_ALL_TIMES = (DESCRIPTORS, GATES, *map(stack_of, range(CPUS)))
#: All of low RAM that is in use while the startup code runs, and from a kexec on.
AT_STARTUP = (*AT_ALL_TIMES, BOOT_PARAMS, COMMAND_LINE, CC_BLOB, CC_SECRETS, CC_CPUID)
AT_KEXEC = (
    *(*AT_ALL_TIMES, *map(per_cpu_area, range(CPUS)), REGISTERS, KIMAGE, SWAP_PAGE, CONTROL_PAGES),
    *(PAGE_STRUCTURES, SECTION_ROOTS, SECTION_ROOT),
)


def test_every_area_of_low_ram_is_looked_at() -> None:
    areas = {value for value in vars(layout).values() if isinstance(value, range)}
    in_ram = {area for area in areas - {INTERRUPT_STACK} if area.stop <= RAM_SIZE}
    assert in_ram <= {*AT_STARTUP, *AT_KEXEC}


@pytest.mark.parametrize("areas", [AT_STARTUP, AT_KEXEC])
def test_no_two_areas_overlap(areas: tuple[range, ...]) -> None:
    ordered = sorted(areas, key=lambda area: area.start)
    assert all(ordered)
    assert not [pair for pair in pairwise(ordered) if pair[0].stop > pair[1].start]
    assert ordered[0].start > 0
    assert ordered[-1].stop <= RAM_SIZE <= SHADOW_RAM


def test_parts_lie_in_their_areas() -> None:
    assert {RETURN_GATE, ENTRY_GATE} <= set(GATES)
    assert set(INTERRUPT_STACK) < set(stack_of(SECONDARY))


def test_every_page_has_a_structure() -> None:
    assert len(PAGE_STRUCTURES) == RAM_SIZE // PAGE * STRUCT_PAGE_SIZE


def test_what_is_a_page_begins_at_one() -> None:
    for area in (GATES, CC_BLOB, SWAP_PAGE, CONTROL_PAGES, *map(stack_of, range(CPUS))):
        assert area.start % PAGE == area.stop % PAGE == 0


def test_the_kernel_s_views_are_apart() -> None:
    """Documentation/arch/x86/x86_64/mm.rst (6.12), with four levels of page tables."""
    direct = range(DEFAULT_PAGE_OFFSET, DEFAULT_PAGE_OFFSET + RAM_SIZE)
    structures = range(DEFAULT_VMEMMAP, DEFAULT_VMEMMAP + len(PAGE_STRUCTURES))
    shadow = range(shadow_of(0xFFFF_8000_0000_0000), SHADOW.stop)
    assert direct.stop <= structures.start < structures.stop <= shadow.start
    assert SHADOW.stop <= KERNEL_MAP < APIC.start < APIC.stop

# SPDX-License-Identifier: GPL-2.0-or-later
"""Each CPU's area is what the boot CPU left in the first one, whatever lay there before."""

from __future__ import annotations

import pytest

from staleline.kernel.boot.percpu import PerCpu
from staleline.kernel.emulator.layout import PAGE, per_cpu_area
from staleline.kernel.emulator.memory import MachineMemory


@pytest.fixture
def memory(real_kernels) -> MachineMemory:
    return MachineMemory(real_kernels["6.12"].image)


@pytest.fixture
def areas(memory, real_kernels) -> PerCpu:
    return PerCpu(real_kernels["6.12"].image, memory)


def area(memory: MachineMemory, areas: PerCpu, cpu: int) -> bytes:
    return memory.read(memory.direct(per_cpu_area(cpu).start), len(areas.linked))


def test_what_is_zero_in_it_is_neither_kept_nor_put_back(memory, areas):
    areas.set_up_areas(2)
    kept = sum(len(content) for pages in memory.kept().regions for _, content in pages.pages)
    # Pages of zeros are most of the section.
    assert kept < len(areas.linked)
    assert any(area(memory, areas, 0))


def test_what_lay_there_before_is_gone(memory, areas):
    areas.set_up_areas(2)
    wanted = area(memory, areas, 1)
    start = per_cpu_area(1).start
    for page in range(0, len(areas.linked), PAGE):
        memory.write(memory.direct(start + page), b"\xee" * 8)
    areas.set_up_areas(2)
    assert area(memory, areas, 1) == wanted

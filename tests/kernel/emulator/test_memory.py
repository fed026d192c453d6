# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's memory is put back as it was, whatever was written in between."""

from __future__ import annotations

import mmap
import os

import pytest

from staleline.kernel.emulator import touchedpages
from staleline.kernel.emulator.layout import PAGE
from staleline.kernel.emulator.memory import KeptPages, Region
from staleline.kernel.emulator.touchedpages import TouchedPages

_PAGES = 4096
_CONTENT = b"".join(number.to_bytes(4, "little") * (PAGE // 4) for number in range(_PAGES))


def of_file() -> Region:
    descriptor = os.memfd_create("content")
    try:
        os.write(descriptor, _CONTENT)
        file = mmap.mmap(descriptor, len(_CONTENT), mmap.MAP_SHARED, mmap.PROT_READ)
        return Region(mmap.mmap(descriptor, len(_CONTENT), mmap.MAP_PRIVATE), file)
    finally:
        os.close(descriptor)


def anonymous() -> Region:
    return Region(mmap.mmap(-1, len(_CONTENT), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


@pytest.fixture(params=[True, False], ids=["pagemap", "without pagemap"])
def pagemap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(touchedpages, "_PAGEMAP", "/nowhere")
    return bool(request.param)


@pytest.fixture(params=[of_file, anonymous])
def region(request: pytest.FixtureRequest, pagemap: bool) -> Region:
    made: Region = request.param()
    return made


def test_only_pages_written_to_are_touched() -> None:
    region = of_file()
    touched = TouchedPages(region.host_address, len(region))
    assert touched.spans() == []
    assert region.content[5 * PAGE] == 5  # read only
    for page in (3, 4, 9):
        region.content[page * PAGE] = 0xFF
    wanted = [range(3 * PAGE, 5 * PAGE), range(9 * PAGE, 10 * PAGE)]
    assert touched.spans() == wanted


def test_only_a_page_fault_has_them_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert touchedpages.are_faults_counted()
    region = of_file()
    region.content[0] = 1
    touched = TouchedPages(region.host_address, len(region))
    faults = [7, 7, 8]
    monkeypatch.setattr(touchedpages, "page_faults", lambda: faults.pop(0))
    first = touched.spans()
    assert touched.spans() is first == [range(PAGE)]
    region.content[PAGE] = 1
    assert touched.spans() == [range(2 * PAGE)]


def test_reset_leaves_nothing(region: Region) -> None:
    before = bytes(region.content)
    region.content[PAGE - 2 : PAGE + 2] = b"\xff" * 4
    region.reset()
    assert bytes(region.content) == before


def test_any_kept_state_can_be_put_back(region: Region) -> None:
    states: list[tuple[KeptPages, bytes]] = []
    for page in (1, 7, 2, 7):
        region.content[page * PAGE + len(states)] = 0xEE
        states.append((region.kept(), bytes(region.content)))
    for kept, content in (*reversed(states), *states):
        region.put_back(kept)
        assert bytes(region.content) == content


def test_a_region_written_all_over_is_put_back(region: Region) -> None:
    region.content[PAGE] = 0xDD
    kept, content = region.kept(), bytes(region.content)
    region.content[:] = b"\xaa" * len(region)
    region.put_back(kept)
    assert bytes(region.content) == content
    region.content[2 * PAGE] = 0xBB
    region.put_back(kept)
    assert bytes(region.content) == content


def test_what_is_put_back_once_it_was_dropped_does_not_stay() -> None:
    # Of a region that is told when code that runs may have touched pages: here none runs.
    faults = [0]
    memory = mmap.mmap(-1, len(_CONTENT), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    region = Region(memory, faults=lambda: faults[0])
    empty = region.kept()
    region.content[PAGE] = 1
    faults[0] += 1
    kept = region.kept()
    region.content[:] = b"\xaa" * len(region)
    faults[0] += 1
    assert region.put_back(empty)
    assert region.touched() == []
    region.put_back(kept)
    region.put_back(empty)
    assert bytes(region.content) == bytes(len(region))

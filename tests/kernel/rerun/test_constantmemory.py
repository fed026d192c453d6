# SPDX-License-Identifier: GPL-2.0-or-later
"""What no running kernel changes, and everything else, which may be changed to see what it does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from staleline.kernel.image.symbols import SymbolTable
from staleline.kernel.rerun.constantmemory import variable_memory


class _Names:
    def __init__(self, *names: str) -> None:
        self._names = names

    def name(self, index: int) -> str:
        return self._names[index]

    def find(self, name: str) -> list[int]:
        return [index for index, other in enumerate(self._names) if other == name]


def symbols(**addresses: int) -> SymbolTable:
    ordered = sorted(addresses.items(), key=lambda item: item[1])
    places = np.array([address for _, address in ordered], np.uint64)
    return SymbolTable(places, _Names(*(name for name, _ in ordered)))


KERNEL = symbols(
    _text=0x1000,
    _etext=0x2000,
    __start_rodata=0x3000,
    __start_ro_after_init=0x3800,
    __end_ro_after_init=0x3C00,
    __end_rodata=0x4000,
    _sinittext=0x5000,
    _einittext=0x6000,
)


def test_what_a_boot_sets_and_nobody_later_is_variable() -> None:
    variable = variable_memory(KERNEL, ())
    assert range(0x3800, 0x3C00) in variable
    assert [part.start for part in variable] == [0, 0x2000, 0x3800, 0x4000, 0x6000]


def test_an_image_that_names_nothing_is_variable_throughout() -> None:
    assert variable_memory(symbols(), ()) == [range(1 << 64)]


def test_pages_that_are_written_for_each_run_are_not() -> None:
    variable = variable_memory(symbols(), (range(0x1_0000, 0x1_2000),))
    assert variable == [range(0x1_0000), range(0x1_2000, 1 << 64)]


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 60)), max_size=6))
def test_the_two_together_are_all_of_memory(areas: list[tuple[int, int]]) -> None:
    written = [range(start, start + size) for start, size in areas]
    variable = variable_memory(symbols(), written)
    for address in range(600):
        assert any(address in part for part in variable) is not any(
            address in part for part in written
        )

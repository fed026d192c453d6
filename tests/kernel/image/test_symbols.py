# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import numpy as np
import pytest

from staleline.kernel.image.symbols import AmbiguousNameError, SymbolTable


class Names:
    """Names in a list."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def name(self, index: int) -> str:
        return self.names[index]

    def find(self, name: str) -> list[int]:
        return [index for index, other in enumerate(self.names) if other == name]


TABLE = SymbolTable(
    np.array([0x1000, 0x1000, 0x1040, 0x1100, 2**64 - 1], np.uint64),
    Names(["_text", "_stext", "twice", "twice", "last"]),
)


def test_of_one_name_at_two_addresses_neither_is_meant():
    reason = "ambiguous: two symbols named twice at 0x1040 and 0x1100"
    for ask in (TABLE.address, TABLE.size_of):
        with pytest.raises(AmbiguousNameError, match=reason):
            ask("twice")
    assert TABLE.only_address("twice") is None
    assert TABLE.addresses("twice") == (0x1040, 0x1100)
    assert "twice" in TABLE


def test_of_many_addresses_some_are_told():
    addresses = np.arange(0x1000, 0x1006, dtype=np.uint64)
    table = SymbolTable(addresses, Names(["same"] * 6))
    reason = "ambiguous: 6 symbols named same at 0x1000 and 0x1001 and 0x1002 and 0x1003 and 2 more"
    with pytest.raises(AmbiguousNameError, match=reason):
        table.address("same")


def test_a_name_that_is_twice_at_one_address_is_not_ambiguous():
    table = SymbolTable(np.array([0x1000, 0x1000], np.uint64), Names(["same", "same"]))
    assert table.address("same") == table.only_address("same") == 0x1000


def test_a_name_that_is_not_there():
    assert TABLE.address("nowhere") is None
    assert TABLE.addresses("nowhere") == ()
    assert TABLE.size_of("nowhere") is None
    assert "nowhere" not in TABLE
    assert "_text" in TABLE
    assert 0x1000 not in TABLE


def test_names_at_an_address_are_all_names():
    assert TABLE.names_at(0x1000) == ("_text", "_stext")
    assert TABLE.names_at(0x1001) == ()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (-1, None),
        (0xFFF, None),
        (0x1000, ("_text", 0)),
        (0x103F, ("_text", 0x3F)),
        (0x1040, ("twice", 0)),
        (0x2000, ("twice", 0xF00)),
        (2**64 - 1, ("last", 0)),
        (2**64, ("last", 1)),
    ],
)
def test_enclosing_is_the_nearest_below(address, expected):
    assert TABLE.enclosing(address) == expected


def test_size_is_the_distance_to_the_next_address():
    assert TABLE.size_of("_text") == 0x40
    assert TABLE.size_of("_stext") == 0x40
    assert TABLE.size_of("last") is None


@pytest.mark.parametrize("names", [["__pi_sev_status", "sev_status"], ["sev_status", "__pi_it"]])
def test_a_name_of_startup_code_s_own_is_not_what_is_there(names):
    """The facts know variables by what the kernel calls them."""
    table = SymbolTable(np.array([0x1000, 0x1000], np.uint64), Names(names))
    assert table.enclosing(0x1004) == ("sev_status", 4)


def test_what_has_no_other_name_keeps_that_of_startup_code():
    table = SymbolTable(np.array([0x1000], np.uint64), Names(["__pi_sme_enable"]))
    assert table.enclosing(0x1004) == ("__pi_sme_enable", 4)


@pytest.mark.parametrize(
    ("address", "place", "start"),
    [
        (0x0FFF, "0xfff", None),
        (0x1000, "_text", 0x1000),
        (0x1101, "twice+0x1", 0x1100),
    ],
)
def test_a_place_is_told_by_the_symbol_that_is_below(address, place, start):
    assert TABLE.place(address) == place
    assert TABLE.start_of(address) == start


def test_a_part_that_was_split_off_belongs_to_its_function():
    table = SymbolTable(np.array([0x1000], np.uint64), Names(["reset.cold"]))
    assert table.function_of(0x1008) == "reset"
    assert table.function_of(0x0FFF) == ""

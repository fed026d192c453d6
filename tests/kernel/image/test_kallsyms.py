# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables written as scripts/kallsyms.c of 5.10, 6.1, 6.12, 6.16 and 7.0 writes them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.kernel.image.kallsyms import Area, find_kallsyms
from tests.kernel.kernelwriter import (
    RODATA,
    TEXT,
    Layout,
    Symbol,
    compress,
    some_symbols,
    tokens,
    write_kallsyms,
    write_markers,
    write_token_index,
)

KERNEL = range(TEXT, TEXT + (1 << 30))
LAYOUTS = list(Layout)


def find(tables: bytes, before: bytes = b""):
    """Search tables that lie behind other read-only data at `RODATA`."""
    return find_kallsyms(Area(RODATA, memoryview(before + tables)), KERNEL)


def listed(kallsyms):
    return [
        (kallsyms.names.name(index), address, kallsyms.names.kind(index))
        for index, address in enumerate(kallsyms.addresses.tolist())
    ]


def expected(symbols):
    ascending = sorted(symbols, key=lambda symbol: symbol.address)
    return [(symbol.name, symbol.address, symbol.kind) for symbol in ascending]


@pytest.mark.parametrize("alignment", [4, 8])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_symbols_of_every_layout(layout, alignment):
    symbols = some_symbols(layout)
    before = b"Linux version 6\0".ljust(0x48, b"\0")
    tables = write_kallsyms(symbols, layout, RODATA + len(before), alignment=alignment)
    assert listed(find(tables + b"behind" * 9, before)) == expected(symbols)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_are_found_without_their_type_letter(layout):
    names = find(write_kallsyms(some_symbols(layout), layout, RODATA)).names
    for wanted in ("_text", "function_699", "linux_banner", "long_" + "x" * 200):
        (index,) = names.find(wanted)
        assert names.name(index) == wanted
    assert len(names.find("duplicate")) == 2
    assert names.find("T_text") == []
    assert names.find("function_70") != names.find("function_07") == []


def test_anagrams_are_told_apart():
    symbols = [*some_symbols(Layout.V7_0), Symbol("abc", TEXT + 1), Symbol("cab", TEXT + 2)]
    found = find(write_kallsyms(symbols, Layout.V7_0, RODATA))
    (index,) = found.names.find("cab")
    assert found.addresses[index] == TEXT + 2


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [513, 600, 767, 768, 769, 1024])
def test_last_chunk_full_or_not(layout, count):
    symbols = some_symbols(layout, count - 8)
    assert len(find(write_kallsyms(symbols, layout, RODATA)).addresses) == count


def test_symbols_behind_the_image_are_kept():
    """7.1 lists .modinfo, which is linked behind _end and stripped from the payload."""
    symbols = [*some_symbols(Layout.V7_0), Symbol("__UNIQUE_ID_modinfo_1", TEXT + 0x380_0000, "r")]
    assert find(write_kallsyms(symbols, Layout.V7_0, RODATA)).addresses[-1] == TEXT + 0x380_0000


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_digit_table_that_is_none_is_passed_over(layout):
    decoy = (b"\0".join(b"%d" % digit for digit in range(10)) + b"\0").ljust(64, b"\0")
    symbols = some_symbols(layout)
    tables = write_kallsyms(symbols, layout, RODATA + len(decoy))
    assert listed(find(tables, decoy)) == expected(symbols)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_wrong_marker_is_no_table(layout):
    symbols = some_symbols(layout)
    tables, markers = write_kallsyms(symbols, layout, RODATA), write_markers(symbols)
    assert tables.count(markers) == 1
    wrong = markers[:4] + bytes([markers[4] ^ 1]) + markers[5:]
    assert find(tables.replace(markers, wrong)) is None


@pytest.mark.parametrize("entry", [0, 1, 0x30, 0x80, 0xFF])
def test_one_wrong_token_offset_is_no_table(entry):
    tables = write_kallsyms(some_symbols(Layout.V7_0), Layout.V7_0, RODATA)
    index = write_token_index()
    wrong = index[: 2 * entry] + bytes([index[2 * entry] ^ 1]) + index[2 * entry + 1 :]
    assert tables.count(index) == 1
    assert find(tables.replace(index, wrong)) is None


def test_a_name_that_begins_with_an_unused_token_is_no_table():
    """scripts/kallsyms.c puts a symbol's type letter in front of its name."""
    symbols = some_symbols(Layout.V7_0)
    tables = write_kallsyms(symbols, Layout.V7_0, RODATA)
    code = next(code for code, text in enumerate(tokens()) if not text)
    name = bytes([len(compress("Tduplicate"))]) + compress("tduplicate")
    wrong = name[:1] + bytes([code]) + name[2:]
    assert tables.count(name) == 2
    assert find(tables.replace(name, wrong)) is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_addresses_outside_the_kernel_are_no_table(layout):
    symbols = some_symbols(layout)
    tables = write_kallsyms(symbols, layout, RODATA)
    moved = [Symbol(s.name, s.address + 0x4000_0000, s.kind) for s in symbols]
    assert find(tables) is not None
    assert find(write_kallsyms(moved, layout, RODATA)) is None


@pytest.mark.parametrize("area", [b"", b"\0", b"\0" * 4096, bytes(range(256)) * 64])
def test_nothing_to_find(area):
    assert find(area) is None


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LAYOUTS), st.data())
def test_damaged_tables_are_refused_or_read_within_bounds(layout, data):
    tables = bytearray(write_kallsyms(some_symbols(layout), layout, RODATA))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(tables) - 1))
        tables[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(tables)) | st.just(len(tables)))
    found = find(bytes(tables[:cut]))
    if found is not None:
        assert len(found.names) == len(found.addresses)
        assert len(listed(found)) == len(found.addresses)
        assert sorted(found.addresses) == list(found.addresses)

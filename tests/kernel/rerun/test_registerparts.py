# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of parts of registers, and what a write of 32 bits clears (AMD APM volume 1, 3.1.2)."""

from __future__ import annotations

import pytest

from staleline.kernel.rerun.registerparts import FLAGS, Part, parts_of, parts_of_all, upper_halves


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("al", [(0, 8)]),
        ("ah", [(8, 8)]),
        ("ax", [(0, 8), (8, 8)]),
        ("eax", [(0, 8), (8, 8), (16, 16)]),
        ("rax", [(0, 8), (8, 8), (16, 16), (32, 32)]),
    ],
)
def test_a_name_means_parts_of_the_whole_register(name: str, bits: list[tuple[int, int]]) -> None:
    assert parts_of(name) == tuple(Part("rax", first, width) for first, width in bits)


def test_numbered_registers_have_such_names_too() -> None:
    assert parts_of("r9w") == (Part("r9", 0, 8), Part("r9", 8, 8))


def test_what_has_no_parts_is_one() -> None:
    assert parts_of("cr4") == (Part("cr4", 0, 64),)
    assert parts_of("rflags") == parts_of("eflags") == (FLAGS,)


def test_a_part_of_several_names_is_there_once() -> None:
    assert parts_of_all(["ax", "al"]) == (Part("rax", 0, 8), Part("rax", 8, 8))


def test_a_write_of_32_bits_alone_clears_the_upper_half() -> None:
    assert upper_halves(["edx"]) == (Part("rdx", 32, 32),)
    assert upper_halves(["rdx", "dx", "dl", "dh", "eflags"]) == ()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Single changes, halves of many, and which of them makes the difference."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from staleline.kernel.rerun.changes import (
    AnswerBit,
    Change,
    Memory,
    bits_of,
    changed,
    halved,
    responsible,
    variation,
)
from staleline.kernel.rerun.inputs import Register

SYSCFG = Register(0xC001_0010, None)
LEAF_1_ECX = Register(1, 0, 2)


def cells(number: int) -> list[Memory]:
    return [Memory((0x1000 + 8 * i, 8), bytes(8), f"variable {i}") for i in range(number)]


def test_bits_of_one_register_are_turned_over_together() -> None:
    bits = [AnswerBit(SYSCFG, 23), AnswerBit(SYSCFG, 24), AnswerBit(LEAF_1_ECX, 31)]
    flips = variation(bits).flips
    assert (flips(SYSCFG), flips(LEAF_1_ECX)) == (0b11 << 23, 1 << 31)
    assert flips(Register(7, 0)) == 0


def test_bits_that_were_turned_over_come_back_one_by_one() -> None:
    asked = {SYSCFG: 0b11 << 23, LEAF_1_ECX: 1 << 31}
    bits = bits_of(asked)
    assert len(bits) == 3
    assert {register: variation(bits).flips(register) for register in asked} == asked


@given(st.integers(1, 40), st.data())
def test_the_first_change_without_which_nothing_happens_is_the_last_one_named(
    number: int, data: st.DataObject
) -> None:
    decisive = data.draw(st.integers(0, number - 1))
    changes: list[Change] = list(cells(number))
    asked = 0

    def still(some: Sequence[Change]) -> bool:
        nonlocal asked
        asked += 1
        return changes[decisive] in some

    found = responsible(changes, still)
    assert found is not None
    assert list(found) == changes[: decisive + 1]
    # All of them, and then by halves.
    assert asked <= 1 + number.bit_length()


def test_changes_that_do_nothing_together_are_not_searched() -> None:
    asked: list[int] = []

    def never(some: Sequence[Change]) -> bool:
        asked.append(len(some))
        return False

    assert responsible(cells(8), never) is None
    assert asked == [8]


@given(st.integers(0, 1000))
def test_two_halves_are_all_of_them_and_share_nothing(seed: int) -> None:
    """So no single change can hide: one of the two runs has it."""
    all_of_them = cells(50)
    one, other = (halved(all_of_them, seed, complement=flag) for flag in (False, True))
    assert sorted((*one, *other), key=lambda each: each.cell) == all_of_them
    assert one
    assert other


@given(st.binary(min_size=1, max_size=8), st.integers(0, 7))
def test_a_changed_cell_is_another_one_of_the_same_size(content: bytes, seed: int) -> None:
    memory = Memory((0x1000, len(content)), content, "a variable")
    other = changed(memory, seed)
    assert len(other.content) == len(content)
    assert other.cell == memory.cell
    # A guard that asks whether it is zero sees a change in every second round at least.
    rounds = [any(changed(memory, again).content) for again in (seed, seed + 1)]
    assert (not any(content)) in rounds


def test_code_has_but_one_other_form() -> None:
    branch = Memory((0x1000, 2), b"\xeb\x10", "static key", is_code=True)
    assert {changed(branch, seed) for seed in range(8)} == {branch}

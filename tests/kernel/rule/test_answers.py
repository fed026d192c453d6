# SPDX-License-Identifier: GPL-2.0-or-later
"""Merging runs by their answers gives what running each of them would."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.traps import Answer, Question
from staleline.kernel.rule.answers import AnswerTree

QUESTIONS: list[Question] = [(0, 0x10), (0, 0x1F, 0), (1, 0x10), (1, 0x1F, 1)]
Machine = dict[Question, Answer]
Program = Callable[[Callable[[Question], Answer]], str]

machines = st.fixed_dictionaries({question: st.tuples(st.integers(0, 2)) for question in QUESTIONS})


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Asks what the answers so far tell it to, and returns what it came to."""
    decisions: dict[tuple[Answer, ...], Question | str] = {}

    def next_step(history: tuple[Answer, ...]) -> Question | str:
        if history not in decisions:
            ends = st.sampled_from(["flush", "no flush", "unknown"])
            asks = st.sampled_from(QUESTIONS)
            decisions[history] = draw(ends if len(history) == 4 else st.one_of(asks, ends))
        return decisions[history]

    def run(answer: Callable[[Question], Answer]) -> str:
        history: tuple[Answer, ...] = ()
        while not isinstance(step := next_step(history), str):
            history += (answer(step),)
        return step

    return run


def recorded(program: Program, machine: Machine) -> tuple[dict[Question, Answer], str]:
    record: dict[Question, Answer] = {}
    return record, program(lambda question: record.setdefault(question, machine[question]))


@given(programs(), st.lists(machines, max_size=12))
def test_what_is_found_is_what_a_run_would_give(program, many):
    tree: AnswerTree[str] = AnswerTree()
    for machine in many:
        record, result = recorded(program, machine)
        found = tree.find(machine.__getitem__)
        assert found in {None, result}
        if found is None:
            tree.add(record, result)
        assert tree.find(machine.__getitem__) == result


def test_a_machine_that_answers_otherwise_is_not_found():
    tree: AnswerTree[str] = AnswerTree()
    tree.add({(0, 0x10): (1,), (0, 0x1F, 0): (2, 0, 0, 0)}, "flush")
    asked = []

    def answer(question: Question) -> Answer:
        asked.append(question)
        return (0,)

    assert tree.find(answer) is None
    assert asked == [(0, 0x10)]


def test_a_program_that_is_not_deterministic_is_noticed():
    tree: AnswerTree[str] = AnswerTree()
    tree.add({(0, 0x10): (1,)}, "flush")
    with pytest.raises(DerivationError, match="something else"):
        tree.add({(0, 0x11): (1,)}, "flush")


@pytest.mark.parametrize("longer_first", [True, False])
def test_a_run_that_ends_where_another_went_on_is_noticed(longer_first):
    tree: AnswerTree[str] = AnswerTree()
    records: list[dict[Question, Answer]] = [{(0, 16): (1,), (0, 17): (1,)}, {(0, 16): (1,)}]
    first, second = records if longer_first else reversed(records)
    tree.add(first, "flush")
    with pytest.raises(DerivationError, match="something else"):
        tree.add(second, "no flush")

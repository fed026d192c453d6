# SPDX-License-Identifier: GPL-2.0-or-later
"""The search against the reference interpreter, on the models of every scenario."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.check.meaning.interpreter import State, holds, initial, moves, reachable
from staleline.check.search.search import search
from staleline.model.form import Model
from staleline.model.scenario import Flush
from staleline.model.world import world
from tests.check.scenarios import distinct_models, kexec


def _broken(model: Model, states: set[State]) -> set[str]:
    return {
        item.name
        for item in model.properties
        if any(holds(model, item.violated, state) for state in states)
    }


def test_search_and_interpreter_agree_on_states_and_on_what_breaks() -> None:
    for model in distinct_models():
        states = reachable(model, 1)
        broken = _broken(model, states)
        found = search(model, 1, symmetry=False)
        if broken:
            assert found.violated in broken
        else:
            assert (found.violated, found.states) == (None, len(states))


@pytest.mark.parametrize("transition", ["on→off", "off→on"])
def test_symmetry_counts_states_up_to_permutation(transition: str) -> None:
    for _, model in world(kexec(transition))[:2]:
        states = reachable(model, 3)
        classes = {(shared, tuple(sorted(locals_))) for shared, locals_ in states}
        assert search(model, 3).states == len(classes)
        assert search(model, 3, symmetry=False).states == len(states)


def test_symmetry_changes_neither_a_verdict_nor_the_length_of_a_run() -> None:
    for model in distinct_models()[::2]:
        apart, sorted_ = search(model, 2, symmetry=False), search(model, 2)
        assert (apart.run is None) == (sorted_.run is None)
        if apart.run and sorted_.run:
            assert len(apart.run.moves) == len(sorted_.run.moves)


def test_a_run_starts_initially_moves_by_the_rules_and_breaks_its_property() -> None:
    runs = [(model, found) for model in distinct_models() if (found := search(model, 2)).run]
    assert runs
    for model, found in runs:
        assert found.run is not None
        assert found.run.states[0] == initial(model, 2)
        for before, move, after in zip(
            found.run.states, found.run.moves, found.run.states[1:], strict=False
        ):
            assert (move, after) in list(moves(model, before))
        broken = next(item for item in model.properties if item.name == found.violated)
        assert holds(model, broken.violated, found.run.states[-1])


def test_a_hang_is_found() -> None:
    # Without its halting steps a secondary never reports, and the jumping CPU waits for it.
    _, model = world(kexec("on→off", flush_secondary=Flush.NEVER))[0]
    crippled = replace(
        model, actions=tuple(action for action in model.actions if "halts" not in action.name)
    )
    found = search(crippled, 1)
    assert found.violated == "P4"
    assert found.states > 1

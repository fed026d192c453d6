# SPDX-License-Identifier: GPL-2.0-or-later
"""Search and views against the reference interpreter on models nobody would write."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.check.meaning.interpreter import holds, reachable
from staleline.check.search.search import search
from staleline.check.search.views import views
from staleline.model.form import Expr, Model, Whose
from tests.check.search.random_models import expressions, guards_for_views, models
from tests.sampling import examples


@settings(max_examples=examples(150), deadline=None)
@given(model=models(), secondaries=st.integers(0, 2))
def test_search_finds_what_the_interpreter_reaches(model: Model, secondaries: int) -> None:
    states = reachable(model, secondaries)
    broken = any(holds(model, model.properties[0].violated, state) for state in states)
    for symmetry in (True, False):
        found = search(model, secondaries, symmetry=symmetry)
        assert (found.violated == "P") == broken
        if not broken:
            classes = {(shared, tuple(sorted(locals_))) for shared, locals_ in states}
            assert found.states == len(classes if symmetry else states)


@settings(max_examples=examples(150), deadline=None)
@given(model=models(guards_for_views))
def test_what_views_prove_holds_for_small_numbers(model: Model) -> None:
    broken = any(search(model, secondaries).violated for secondaries in range(4))
    assert not (views(model).proved and broken)


@settings(max_examples=examples(100), deadline=None)
@given(model=models(), expr=expressions(Whose.GLOBAL))
def test_negation_negates(model: Model, expr: Expr) -> None:
    for state in reachable(model, 2):
        assert holds(model, ~expr, state) != holds(model, expr, state)

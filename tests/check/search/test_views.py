# SPDX-License-Identifier: GPL-2.0-or-later
"""Proofs for every number of secondaries, against searches with some numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.check.answer import AnswerKind, check
from staleline.check.search.search import search
from staleline.check.search.views import views
from staleline.errors import ModelError
from staleline.model.form import All, And, Any, Expr, Model, Or
from staleline.model.scenario import Flush
from staleline.model.state.cpus import each
from staleline.model.world import world
from tests.check.scenarios import distinct_models, kexec


def _is_quantified(expr: Expr) -> bool:
    match expr:
        case All() | Any():
            return True
        case And(operands) | Or(operands):
            return any(_is_quantified(operand) for operand in operands)
    return False


def test_views_and_searches_agree_on_every_model() -> None:
    # Agreement in one direction would be soundness; in both, there is no false alarm.
    for model in distinct_models():
        assert views(model).proved == (search(model, 2).violated is None), model.title


@pytest.mark.parametrize("secondaries", [0, 3, 5])
def test_what_is_proved_holds_for_other_numbers(secondaries: int) -> None:
    for _, model in world(kexec("on→off")):
        assert views(model).proved
        assert search(model, secondaries).violated is None


def test_a_safe_handover_is_proved_for_every_number_of_cpus() -> None:
    assert check(kexec("on→on")).kind is AnswerKind.PROVED


def test_only_the_jumping_cpu_waits_for_others() -> None:
    # So a secondary's way to its halt cannot depend on other secondaries, and a hang would
    # show with one of them: the reason why P4 is searched and not proved.
    for model in distinct_models():
        waiting = [action.name for action in model.actions if _is_quantified(action.guard)]
        assert waiting == ["all_stopped"]


def _with_guard(model: Model, guard: Expr) -> Model:
    first, *rest = model.actions
    return replace(model, actions=(replace(first, guard=first.guard & guard), *rest))


def test_a_guard_that_asks_for_some_other_secondary_is_refused() -> None:
    _, model = world(kexec("on→on", flush_secondary=Flush.NEVER))[0]
    with pytest.raises(ModelError, match="a guard that asks for some other secondary"):
        views(_with_guard(model, Any(each("pc").one_of("halted"))))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Decision diagrams against the reference interpreter, and as large as machines are."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.check.diagrams.decisiondiagram import DiagramLimits, behaviour, explore
from staleline.check.export.combine import combined
from staleline.check.meaning.interpreter import holds, moves, reachable
from staleline.check.search.search import search
from staleline.errors import ModelError
from staleline.model.form import (
    TRUE,
    Action,
    Actor,
    Assign,
    Expr,
    Model,
    Ref,
    Variable,
    Whose,
)
from staleline.model.scenario import Flush, ReportOrder, Scenario, SharedCache
from staleline.model.state.lines import Line, Role
from staleline.model.world import world
from tests.check.export.grid import Grid, broken, small_grid
from tests.check.scenarios import crash, distinct_models, kexec
from tests.check.search.counting import count_states
from tests.check.search.random_models import expressions, models
from tests.sampling import examples


def _broken(model: Model, secondaries: int) -> tuple[int, tuple[str, ...]]:
    """Reachable states and what some of them break, by the interpreter alone."""
    states = reachable(model, secondaries)
    broken = [
        item.name
        for item in model.properties
        if any(holds(model, item.violated, state) for state in states)
    ]
    after = {state: [one for _, one in moves(model, state)] for state in states}
    reaching = {state for state in states if holds(model, model.goal, state)}
    while grown := {state for state in states - reaching if not reaching.isdisjoint(after[state])}:
        reaching |= grown
    return len(states), (*broken, *([] if reaching == states else [model.goal_name]))


def _lines(scenario: Scenario, *roles: Role) -> list[tuple[Line, Model]]:
    return [(line, model) for line, model in world(scenario) if line.role in roles]


@pytest.mark.parametrize(("secondaries", "every"), [(0, 5), (1, 5), (2, 25)])
def test_states_and_everything_broken_equal_the_interpreter_s(secondaries: int, every: int) -> None:
    for model in distinct_models()[::every]:
        explored = explore(model, secondaries)
        assert (explored.states, explored.broken) == _broken(model, secondaries)


@settings(max_examples=examples(70), deadline=None)
@given(model=models(), goal=expressions(Whose.GLOBAL), secondaries=st.integers(0, 2))
def test_models_nobody_would_write_are_explored_exactly(
    model: Model, goal: Expr, secondaries: int
) -> None:
    model = replace(model, goal=goal)
    explored = explore(model, secondaries)
    assert (explored.states, explored.broken) == _broken(model, secondaries)


def test_verdicts_equal_the_search_s() -> None:
    for model in distinct_models()[::5]:
        found, explored = search(model, 3).violated, explore(model, 3)
        assert (found is None) == (explored.violated is None)
        assert found is None or found in explored.broken


@pytest.mark.parametrize("case", small_grid(), ids=str)
def test_every_variant_of_the_world_is_explored_exactly(case: Grid) -> None:
    model = case.model()
    explored = explore(model, case.secondaries)
    assert explored.states == count_states(model, case.secondaries)
    assert set(explored.broken) == broken(model, case.secondaries)


@pytest.mark.parametrize("secondaries", [4, 8])
@pytest.mark.parametrize("scenario", [kexec("on→off"), kexec("off→on"), crash("on→on")])
def test_counts_equal_the_plain_search_s_beyond_what_is_stored(
    scenario: Scenario, secondaries: int
) -> None:
    for _, model in world(scenario)[:2]:
        assert explore(model, secondaries).states == count_states(model, secondaries)


def test_actions_are_told_apart_where_the_same_remains_of_their_guards() -> None:
    # A secondary can set x while turn is a and y while it is b, asking nothing else.
    turn, x, y = Ref(Whose.GLOBAL, "turn"), Ref(Whose.OWN, "x"), Ref(Whose.OWN, "y")
    sets_x = _action("sets_x", Actor.SECONDARY, turn.one_of("a"), x.becomes("1"))
    sets_y = _action("sets_y", Actor.SECONDARY, turn.one_of("b"), y.becomes("1"))
    turns = _action("turns", Actor.JUMPING, turn.one_of("a"), turn.becomes("b"))
    model = _of_turns(sets_x, sets_y, turns)
    assert explore(model, 2).states == len(reachable(model, 2)) == 2**2 + 4**2


def test_moves_that_never_meet_a_local_state_may_make_of_it_what_never_occurs() -> None:
    # The jumping CPU sets either x or y of all secondaries, so that none ever has both.
    turn, x, y = Ref(Whose.GLOBAL, "turn"), Ref(Whose.EACH, "x"), Ref(Whose.EACH, "y")
    first, either, other = turn.one_of("a"), turn.becomes("b"), turn.becomes("c")
    sets_x = _action("sets_x", Actor.JUMPING, first, either, x.becomes("1"))
    sets_y = _action("sets_y", Actor.JUMPING, first, other, y.becomes("1"))
    model = _of_turns(sets_x, sets_y)
    assert explore(model, 2).states == len(reachable(model, 2)) == 3


def _of_turns(*actions: Action) -> Model:
    return Model(
        title="turns",
        globals=(Variable("turn", ("a", "b", "c")),),
        locals=(Variable("x", ("0", "1")), Variable("y", ("0", "1"))),
        actions=actions,
        properties=(),
        goal=TRUE,
        goal_name="G",
        goal_title="",
    )


def _action(name: str, actor: Actor, guard: Expr, *assigns: Assign) -> Action:
    return Action(name, actor, guard, assigns, function="", source="", sentence="")


@pytest.mark.parametrize("secondaries", [1, 2, 3])
def test_two_lines_in_one_model_are_counted_alike(secondaries: int) -> None:
    model = combined(_lines(kexec("on→off"), Role.IMAGE, Role.STOP_MASK))
    assert explore(model, secondaries).states == count_states(model, secondaries)


def test_wbinvd_that_waits_for_all_caches_is_taken_in_turn() -> None:
    # Such a WBINVD asks something of every other secondary, so it is never taken alone.
    shared = SharedCache.ALL_CORES
    [(_, model)] = _lines(kexec("off→on", shared_cache=shared), Role.IMAGE)
    explored = explore(model, 63)
    assert explored.violated is None
    assert explored.images < 1000


def test_a_hang_is_found() -> None:
    # Without its halting steps a secondary never reports, and the jumping CPU waits for it.
    _, model = world(kexec("on→off", flush_secondary=Flush.NEVER))[0]
    crippled = replace(
        model, actions=tuple(action for action in model.actions if "halts" not in action.name)
    )
    assert explore(crippled, 8).broken == ("P4",)
    assert explore(crippled, 8, goal=False).broken == ()


@pytest.mark.parametrize("role", [Role.IMAGE, Role.REST, Role.STOP_MASK])
def test_256_cpus_and_one_line_take_seconds(role: Role) -> None:
    [(_, model)] = _lines(kexec("on→off"), role)
    start = time.process_time()
    explored = explore(model, 255)
    assert time.process_time() - start < 20
    assert explored.violated is None
    assert explored.states > 10**200


def test_64_cpus_and_two_lines_take_seconds() -> None:
    model = combined(_lines(kexec("on→off"), Role.IMAGE, Role.STOP_MASK))
    start = time.process_time()
    explored = explore(model, 63)
    assert time.process_time() - start < 30
    assert explored.violated is None
    assert explored.states > 10**70


def test_three_lines_take_seconds() -> None:
    model = combined(_lines(kexec("off→on"), Role.IMAGE, Role.REST, Role.STOP_MASK))
    start = time.process_time()
    explored = explore(model, 3)
    assert time.process_time() - start < 10
    # As many as spin 6.5.2 counts with the same model.
    assert (explored.states, explored.broken) == (4_018_542, ())


def test_three_lines_in_one_model_are_counted_alike() -> None:
    model = combined(_lines(kexec("on→off"), Role.IMAGE, Role.REST, Role.STOP_MASK))
    assert explore(model, 1).states == count_states(model, 1)


def test_on_64_cpus_a_flush_after_the_report_comes_too_late() -> None:
    # Before commit 1f5e7eb7868e (v6.5) a CPU was taken off the mask before its WBINVD.
    [(_, model)] = _lines(kexec("on→off", report=ReportOrder.BEFORE_FLUSH), Role.IMAGE)
    assert explore(model, 63).broken == ("P1", "P2")


def test_too_few_nodes_are_an_error_that_says_what_to_raise() -> None:
    _, model = world(kexec("on→off"))[0]
    with pytest.raises(
        ModelError, match=r"more than 1000 diagram nodes .* raise `DiagramLimits.nodes`"
    ):
        explore(model, 32, limits=DiagramLimits(nodes=1000))


def test_too_little_time_is_an_error_that_says_what_to_raise() -> None:
    _, model = world(kexec("on→off"))[0]
    with pytest.raises(ModelError, match=r"not done after 0 s .* raise `DiagramLimits.seconds`"):
        explore(model, 3, limits=DiagramLimits(seconds=0))


def test_what_is_asked_of_a_model_and_what_can_be_done_in_it_are_its_behaviour() -> None:
    model = distinct_models()[0]
    first, *others = model.properties
    asked = replace(model, properties=(replace(first, violated=TRUE), *others))
    named = replace(model, properties=(replace(first, name="P9"), *others))
    fewer = replace(model, actions=model.actions[1:])
    told = replace(model, title="another")
    assert len({behaviour(one) for one in (model, asked, named, fewer)}) == 4
    assert behaviour(told) == behaviour(model)

# SPDX-License-Identifier: GPL-2.0-or-later
"""P4 for every number of secondaries: a measure that some step can always decrease."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from staleline.check.meaning.closures import Values
from staleline.check.meaning.interpreter import holds
from staleline.check.search.compiled import JUMPING, CompiledModel
from staleline.model.form import Model

__all__ = ["Ranks", "ranks"]

_Node = TypeVar("_Node", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Ranks:
    """A candidate measure of one model, as plain values.

    Attributes:
        shared: Values of the globals -> steps of the jumping CPU to the goal, waits aside.
        views: Values of the globals and of one secondary's locals -> steps of that secondary
            until it is no longer waited for.
    """

    shared: Mapping[Values, int]
    views: Mapping[tuple[Values, Values], int]


def ranks(model: Model, compiled: CompiledModel, closed: Mapping[int, Iterable[int]]) -> Ranks:
    """The ranks of all views from which the goal, or an end of the wait, can be reached.

    Args:
        model: The model.
        compiled: It in compiled form.
        closed: Its views, globals -> locals, as the compiled model's numbers.
    """
    alone = _reached(compiled)
    # Waits keep the jumping CPU from some globals wherever there are secondaries, but not without.
    everywhere = {*closed, *alone}
    # With nobody beside it every `All` of a guard holds: ranks of globals leave waits aside.
    goes = {one: [after for after, _, _ in compiled.moves(one, JUMPING, ())] for one in everywhere}
    shared = _distances(goes, [one for one in everywhere if _is_goal(model, compiled, one)])
    views = _view_ranks(compiled, closed, shared)
    # The measure of a state is a pair: the rank of its globals, then the sum of the ranks of all
    # views in it; the first counts more. From every state that is not a goal, either the jumping
    # CPU has a step to a lower rank of the globals, or it waits for some secondaries, and each of
    # those has a step of its own that lowers the measure. Ranks are natural numbers and there are
    # finitely many secondaries, so the goal can be reached.
    return Ranks(
        {compiled.state((one,))[0]: rank for one, rank in shared.items()},
        {_values(compiled, *view): rank for view, rank in views.items()},
    )


def _is_goal(model: Model, compiled: CompiledModel, shared: int) -> bool:
    return holds(model, model.goal, compiled.state((shared,)))


def _reached(compiled: CompiledModel) -> set[int]:
    """The globals that the jumping CPU reaches alone."""
    (start,) = compiled.initial(0)
    reached, waiting = {start}, [start]
    while waiting:
        for after, _, _ in compiled.moves(waiting.pop(), JUMPING, ()):
            if after not in reached:
                reached.add(after)
                waiting.append(after)
    return reached


def _view_ranks(
    compiled: CompiledModel, closed: Mapping[int, Iterable[int]], shared: Mapping[int, int]
) -> dict[tuple[int, int], int]:
    # Without a rank the goal is reached from nowhere: the query about ranks fails, whatever waits
    # say.
    pairs = [
        (shared_values, local)
        for shared_values, locals_ in closed.items()
        for local in locals_
        if shared_values in shared
    ]
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    settled = []
    for shared_values, local in pairs:
        own = [(after, changed) for after, changed, _ in compiled.moves(shared_values, local, ())]
        # Within one rank of the globals only: in the measure the rank counts more.
        steps[shared_values, local] = [
            to for to in own if shared.get(to[0]) == shared[shared_values]
        ]
        ahead = (after for after, _, _ in compiled.moves(shared_values, JUMPING, (local,)))
        lower = (*ahead, *(after for after, _ in own))
        # Not waited for: it is the goal, or somebody can lower the rank with this secondary where
        # it is.
        if shared[shared_values] == 0 or any(
            shared.get(to, shared[shared_values]) < shared[shared_values] for to in lower
        ):
            settled.append((shared_values, local))
    return _distances(steps, settled)


def _distances(steps: Mapping[_Node, Iterable[_Node]], ends: Iterable[_Node]) -> dict[_Node, int]:
    """Steps from each node to the nearest end, for those that reach one."""
    before: dict[_Node, list[_Node]] = defaultdict(list)
    for node, following in steps.items():
        for after in following:
            before[after].append(node)
    distances = dict.fromkeys(ends, 0)
    frontier = list(distances)
    while frontier:
        earlier = dict.fromkeys(
            (node, distances[after] + 1) for after in frontier for node in before[after]
        )
        frontier = []
        for node, rank in earlier:
            if node not in distances:
                distances[node] = rank
                frontier.append(node)
    return distances


def _values(compiled: CompiledModel, shared: int, local: int) -> tuple[Values, Values]:
    values, (own,) = compiled.state((shared, local))
    return values, own

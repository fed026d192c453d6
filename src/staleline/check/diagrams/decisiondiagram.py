# SPDX-License-Identifier: GPL-2.0-or-later
"""All reachable states for as many CPUs as real machines have, by decision diagrams.

For each value of the globals, a diagram holds the set of rows (local states of all
secondaries) that can be reached with it; no symmetry is needed, and states are counted
exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field

from oxidd.util import DDMemoryError

from staleline.check.diagrams.localstates import LocalMove, LocalStates, Values
from staleline.check.diagrams.rowmoves import any_number, bodies_of_all, in_turn, once, rows_where
from staleline.check.diagrams.rows import Diagram, Pairs, Rows
from staleline.errors import ModelError
from staleline.model.form import TRUE, Expr, Model, Whose

__all__ = ["DiagramLimits", "Explored", "behaviour", "explore"]


@dataclass(frozen=True, slots=True)
class DiagramLimits:
    """What an exploration may take before it gives up.

    Attributes:
        nodes: Most diagram nodes at a time, at least 1. The default keeps memory below 500 MB.
        seconds: Most time, looked at after each image; None for no bound.
    """

    nodes: int = 1 << 22
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Explored:
    """What an exploration established.

    Attributes:
        secondaries: Number of secondaries.
        states: Reachable states, secondaries told apart.
        broken: Names of the properties that some reachable state breaks, in the model's
            order; last the goal's, if it was looked at and some state cannot reach it.
        images: Images and preimages taken.
        nodes: Diagram nodes at the end, those of intermediate results included.
    """

    secondaries: int
    states: int
    broken: tuple[str, ...]
    images: int
    nodes: int

    @property
    def violated(self) -> str | None:
        """The first property that does not hold; None if all do."""
        return next(iter(self.broken), None)


def behaviour(model: Model) -> Hashable:
    """All that an exploration takes from a model: where it is equal, the findings are."""
    states = LocalStates(model)
    asked = (*(item.violated for item in model.properties), model.goal)
    with_globals = frozenset(
        (
            shared,
            frozenset(states.moves(shared)),
            tuple(states.given(expr, Whose.GLOBAL, shared) for expr in asked),
        )
        for shared in _forwards(states)
    )
    variables = tuple(one.name for one in (*model.globals, *model.locals))
    properties = (*(item.name for item in model.properties), model.goal_name)
    # What tells models apart beyond it (texts, actions that are never enabled, guards that come to
    # the same) makes no difference to what is reachable.
    return variables, properties, states.start, states.locals, with_globals


def explore(
    model: Model,
    secondaries: int,
    *,
    goal: bool = True,
    limits: DiagramLimits = DiagramLimits(),
) -> Explored:
    """Find all reachable states of a model, and what they break.

    Args:
        model: The model.
        secondaries: Number of secondaries, at least 0.
        goal: Also look for states that cannot reach the model's goal.
        limits: What it may take.

    Raises:
        ModelError: A bound was hit.
    """
    bounds = _Bounds(limits)
    try:
        # Within the `try`, as the rows and relations themselves take nodes.
        exploration = _Exploration(model, secondaries, bounds)
        exploration.close()
        broken = [*exploration.broken()]
        if goal and exploration.stuck():
            broken.append(model.goal_name)
        rows = exploration.rows
        states = sum(map(rows.count, exploration.reached.values()))
        return Explored(secondaries, states, tuple(broken), bounds.images, rows.nodes)
    except DDMemoryError as error:
        raise ModelError(
            f"more than {limits.nodes} diagram nodes with {secondaries} secondaries",
            where="decision diagrams",
            do="raise `DiagramLimits.nodes`, or check fewer secondaries",
        ) from error


@dataclass(slots=True)
class _Bounds:
    """What has been spent, and what may be."""

    limits: DiagramLimits
    images: int = 0
    start: float = field(default_factory=time.monotonic)

    def spend(self) -> None:
        self.images += 1
        most = self.limits.seconds
        if most is not None and time.monotonic() - self.start > most:
            raise ModelError(
                f"not done after {most:g} s and {self.images} images",
                where="decision diagrams",
                do="raise `DiagramLimits.seconds`, or check fewer secondaries",
            )


@dataclass(frozen=True, slots=True)
class _Moves:
    """The moves with one value of the globals, as relations between rows.

    Attributes:
        many: Moves that keep the globals, each in any number: their relations are reflexive.
        single: All other moves: the globals afterwards, and the relation.
    """

    many: tuple[Diagram, ...]
    single: tuple[tuple[Values, Diagram], ...]


class _Exploration:
    """The rows found so far, by the globals that they were found with."""

    def __init__(self, model: Model, secondaries: int, bounds: _Bounds) -> None:
        self.local_states = LocalStates(model)
        self.rows = Rows(self.local_states.locals, secondaries, bounds.limits.nodes)
        self.reached: dict[Values, Diagram] = {}
        self._model = model
        self._bounds = bounds
        self._moves: dict[Values, _Moves] = {}
        self._relations: dict[tuple[object, ...], Diagram] = {}
        self._order = _forwards(self.local_states)

    def close(self) -> None:
        """Find all reachable rows."""
        shared, local = self.local_states.start
        initial = self.rows.rows(0, {0: {0: frozenset({local})}}, lambda _: True)
        waiting = {shared: initial}
        while waiting:
            # Moves mostly lead forwards in this order, so that most sets are complete when their
            # turn comes.
            shared = min(waiting, key=self._order.__getitem__)
            self._look_at(shared, waiting.pop(shared), waiting)

    def _look_at(self, shared: Values, reached: Diagram, waiting: dict[Values, Diagram]) -> None:
        """Add rows to those that are known with some globals, and pass on where they lead."""
        moves = self._moves_with(shared)
        known = self.reached.get(shared, self.rows.none)
        # Passed on is only what is new: what was known has been passed on when it was found.
        new = self._saturated(reached, moves.many, self._image) & ~known
        if not new.satisfiable():
            return
        self.reached[shared] = known | new
        for after, relation in moves.single:
            image = self._image(new, relation)
            # What is known there already would have to wait, be saturated and be taken off again.
            if after in self.reached:
                image = image & ~self.reached[after]
            if image.satisfiable():
                waiting[after] = waiting.get(after, self.rows.none) | image

    def broken(self) -> Iterator[str]:
        """The properties that some reachable state breaks."""
        for item in self._model.properties:
            if any(
                (rows & self._where(item.violated, shared)).satisfiable()
                for shared, rows in self.reached.items()
            ):
                yield item.name

    def stuck(self) -> bool:
        """Is there a reachable state from which the goal cannot be reached?"""
        reaching = {
            shared: rows & self._where(self._model.goal, shared)
            for shared, rows in self.reached.items()
        }
        # Against the direction of moves, so that the second round mostly finds nothing more.
        backwards = sorted(self.reached, key=self._order.__getitem__, reverse=True)
        growing = True
        while growing:
            growing = False
            for shared in backwards:
                before = reaching[shared]
                reaching[shared] = self._leading_to(shared, reaching)
                growing |= reaching[shared] != before
        return reaching != self.reached

    def _leading_to(self, shared: Values, reaching: Mapping[Values, Diagram]) -> Diagram:
        """The rows with some globals that are in their set, or one kind of move before one."""
        moves, all_rows = self._moves_with(shared), self.reached[shared]
        leading = reaching[shared]
        for after, relation in moves.single:
            # Equal diagrams are one node, so that to ask costs nothing; a preimage does.
            if leading == all_rows:
                return leading
            if after in reaching and reaching[after].satisfiable():
                leading = leading | self._preimage(reaching[after], relation) & all_rows
        # Backwards, relations lead to rows as well that cannot be reached.
        return self._saturated(leading, moves.many, self._preimage) & all_rows

    def _saturated(
        self,
        rows: Diagram,
        relations: tuple[Diagram, ...],
        step: Callable[[Diagram, Diagram], Diagram],
    ) -> Diagram:
        """The rows and all that reflexive relations make of them."""
        unchanged = 0
        while unchanged < len(relations):
            for relation in relations:
                after = step(rows, relation)
                unchanged = unchanged + 1 if after == rows else 0
                rows = after
                if unchanged == len(relations):
                    break
        return rows

    def _image(self, rows: Diagram, relation: Diagram) -> Diagram:
        self._bounds.spend()
        return self.rows.image(rows, relation)

    def _preimage(self, rows: Diagram, relation: Diagram) -> Diagram:
        self._bounds.spend()
        return self.rows.preimage(rows, relation)

    def _where(self, expr: Expr, shared: Values) -> Diagram:
        """The rows in which an expression holds, with some globals."""
        left = self.local_states.given(expr, Whose.GLOBAL, shared)
        # Filed under what the globals leave of it, which is the same for many of them.
        return self._once_built(
            ("where", left), lambda: rows_where(self.rows, self.local_states, left)
        )

    def _moves_with(self, shared: Values) -> _Moves:
        if shared not in self._moves:
            self._moves[shared] = self._built_moves(shared)
        return self._moves[shared]

    def _built_moves(self, shared: Values) -> _Moves:
        alone: set[tuple[Values, Values]] = set()
        many: list[Diagram] = []
        single: list[tuple[Values, Diagram]] = []
        for move in self.local_states.moves(shared):
            stays = move.after == shared and bool(move.steps)
            # Such steps commute, and one relation takes any number of them.
            if stays and move.others == TRUE and not move.each:
                alone |= move.steps
                continue
            if stays and bodies_of_all(move.others) is not None:
                many.append(self._relation(in_turn, move))
            # Where something is asked, `in_turn` lacks moves of a single secondary.
            if not stays or move.others != TRUE:
                single.append((move.after, self._relation(once, move)))
        if alone:
            # By relations that stand for any number of moves, going through the secondaries one by
            # one takes one step instead of one per secondary.
            many.insert(0, self._any_number(frozenset(alone)))
        return _Moves(tuple(many), tuple(single))

    def _relation(
        self, build: Callable[[Rows, LocalStates, LocalMove], Diagram], move: LocalMove
    ) -> Diagram:
        """A move's relation, which is the same wherever only the globals differ."""
        key = build, move.others, move.each, move.steps
        return self._once_built(key, lambda: build(self.rows, self.local_states, move))

    def _any_number(self, steps: Pairs) -> Diagram:
        return self._once_built(
            ("any number", steps), lambda: any_number(self.rows, self.local_states, steps)
        )

    def _once_built(self, key: tuple[object, ...], build: Callable[[], Diagram]) -> Diagram:
        if key not in self._relations:
            self._relations[key] = build()
        return self._relations[key]


def _forwards(local_states: LocalStates) -> dict[Values, int]:
    """The globals' values in an order in which moves lead forwards, but for cycles."""
    start, _ = local_states.start
    seen, left = {start}, list[Values]()
    path = [(start, local_states.successors(start))]
    while path:
        shared, successors = path[-1]
        after = next((one for one in successors if one not in seen), None)
        if after is None:
            left.append(shared)
            path.pop()
        else:
            seen.add(after)
            path.append((after, local_states.successors(after)))
    # The order in which a depth-first walk leaves them, reversed.
    return {shared: number for number, shared in enumerate(reversed(left))}

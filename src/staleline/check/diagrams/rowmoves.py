# SPDX-License-Identifier: GPL-2.0-or-later
"""The moves of a model as relations between rows, each for all secondaries at once.

Besides single moves there are two relations that stand for moves in any number: `any_number`, for
moves that ask nothing of the others and do nothing to them, and `in_turn`, for moves that do
something to the others or ask something of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from staleline.check.diagrams.localstates import LocalMove, LocalStates, Values
from staleline.check.diagrams.rows import Diagram, Pairs, Rows
from staleline.model.form import All, And, Any, Constant, Expr, Or

__all__ = ["any_number", "bodies_of_all", "in_turn", "once", "rows_where"]


def rows_where(rows: Rows, local_states: LocalStates, expr: Expr) -> Diagram:
    """The rows in which an expression holds of which only its quantifiers are left."""
    asked = _Asked(local_states, tuple(dict.fromkeys(_quantifiers(expr))))
    arcs: dict[int, dict[int, set[Values]]] = {seen: {} for seen in asked.possible}
    for seen, local in product(arcs, local_states.locals):
        arcs[seen].setdefault(seen | asked.answers(local), set()).add(local)
    frozen = {
        seen: {after: frozenset(locals_) for after, locals_ in leaving.items()}
        for seen, leaving in arcs.items()
    }
    return rows.rows(0, frozen, lambda seen: asked.holds(expr, seen))


def once(rows: Rows, local_states: LocalStates, move: LocalMove) -> Diagram:
    """A move, taken by one of the secondaries, or by the jumping CPU."""
    asked = _Asked(local_states, tuple(dict.fromkeys(_quantifiers(move.others))))
    arcs: dict[_Once, dict[_Once, Pairs]] = {}
    for moved, seen in product((False, True), asked.possible):
        leaving: dict[_Once, set[tuple[Values, Values]]] = {}
        for local in local_states.locals:
            after = moved, seen | asked.answers(local)
            leaving.setdefault(after, set()).add((local, move.effect(local)))
        if not moved and move.steps:
            leaving[True, seen] = set(move.steps)
        arcs[moved, seen] = {after: frozenset(pairs) for after, pairs in leaving.items()}
    return rows.relation(
        (False, 0),
        arcs,
        # The jumping CPU's moves have no steps, and then nobody in the row may have moved.
        lambda state: state[0] == bool(move.steps) and asked.holds(move.others, state[1]),
    )


def any_number(rows: Rows, local_states: LocalStates, steps: Pairs) -> Diagram:
    """Steps of any secondaries, in any number, that do not concern the others."""
    return rows.relation(0, {0: {0: _closed(steps, local_states.locals)}}, lambda _: True)


def in_turn(rows: Rows, local_states: LocalStates, move: LocalMove) -> Diagram:
    """A move that asks at most something of all others, taken by any secondaries in turn.

    The relation is reflexive. Where something is asked of the others, it may lack moves of a
    single secondary, which `once` has, but has none that cannot be taken.
    """
    arcs = {
        # What it does to others is an assignment of constants, so how often they suffer it does not
        # matter, but only whether they did before their own move, after it, or both. An automaton
        # that reads the row knows who moved before; that somebody will is a promise that must be
        # kept by the end of the row.
        (moved, promised): dict(_turn(local_states, move, moved=moved, promised=promised))
        for moved, promised in product((False, True), repeat=2)
    }
    nobody, somebody = (
        rows.relation((False, promised), arcs, lambda state: not state[1])
        for promised in (False, True)
    )
    return nobody | somebody


#: Has the secondary that moves been passed; what was seen of the others (see `_Asked`).
_Once = tuple[bool, int]
#: Has some secondary that moves been passed; is there one to come.
_Turn = tuple[bool, bool]


def _turn(
    local_states: LocalStates, move: LocalMove, *, moved: bool, promised: bool
) -> Iterator[tuple[_Turn, Pairs]]:
    def allows(local: Values) -> bool:
        """May others move beside a secondary in this local state, once and again?"""
        both = local, move.effect(local)
        return all(local_states.of_each(body, one) for body in asked_of_all for one in both)

    asked_of_all = bodies_of_all(move.others) or ()
    stays = frozenset(
        (local, move.effect(local) if moved or promised else local)
        for local in local_states.locals
        if not (moved or promised) or allows(local)
    )
    if not promised:
        yield (moved, False), stays
        return
    takes = [
        (local, after)
        for local in local_states.locals
        for before, after in move.steps
        if before == (move.effect(local) if moved else local) and (not moved or allows(local))
    ]
    # Who moves before others do suffers their moves afterwards.
    again = frozenset((local, move.effect(after)) for local, after in takes if allows(after))
    if moved:
        yield (True, True), stays | again
    else:
        yield (False, True), stays
        yield (True, True), again
    yield (True, False), frozenset(takes)


def bodies_of_all(others: Expr) -> tuple[Expr, ...] | None:
    """What is asked of every other secondary, if nothing else is asked; none if nothing is."""
    match others:
        case Constant(True):
            return ()
        case All(body):
            return (body,)
        case And(operands) if all(isinstance(one, All) for one in operands):
            return tuple(one.body for one in operands if isinstance(one, All))
    return None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What quantifiers ask about the other secondaries, and what was seen of them.

    What was seen is a bit per quantifier: for `Any`, a witness; for `All`, an exception.
    """

    local_states: LocalStates
    quantifiers: tuple[All | Any, ...]

    @property
    def possible(self) -> range:
        """All that may have been seen."""
        return range(1 << len(self.quantifiers))

    def answers(self, local: Values) -> int:
        """What one secondary adds to what was seen."""
        return sum(
            1 << number
            for number, asked in enumerate(self.quantifiers)
            if self.local_states.of_each(asked.body, local) == isinstance(asked, Any)
        )

    def holds(self, expr: Expr, seen: int) -> bool:
        """The truth of an expression once all secondaries were seen."""
        match expr:
            case Constant(value):
                return value
            case And(operands):
                return all(self.holds(part, seen) for part in operands)
            case Or(operands):
                return any(self.holds(part, seen) for part in operands)
            case All() | Any():
                bit = seen >> self.quantifiers.index(expr) & 1
                return bool(bit) == isinstance(expr, Any)
        raise TypeError(f"more than quantifiers is left: {expr!r}")


def _quantifiers(expr: Expr) -> Iterator[All | Any]:
    match expr:
        case All() | Any():
            yield expr
        case And(operands) | Or(operands):
            for part in operands:
                yield from _quantifiers(part)


def _closed(steps: Pairs, locals_: tuple[Values, ...]) -> Pairs:
    """The reflexive and transitive closure."""
    following: dict[Values, list[Values]] = {}
    for before, after in steps:
        following.setdefault(before, []).append(after)
    pairs = set()
    for local in locals_:
        waiting, reached = [local], {local}
        while waiting:
            news = set(following.get(waiting.pop(), ())) - reached
            reached |= news
            waiting.extend(news)
        pairs |= {(local, after) for after in reached}
    return frozenset(pairs)

# SPDX-License-Identifier: GPL-2.0-or-later
"""A model with its globals filled in: what each CPU can do, and which local states matter.

For every value of the globals that may occur, the moves are tabled once: what remains of a
guard then only asks about the other secondaries. The local states are those of the views
(see `check.views`), which are all that occur with any number of secondaries, and more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from staleline.model.form import (
    FALSE,
    TRUE,
    Action,
    Actor,
    All,
    And,
    Any,
    Constant,
    Expr,
    Member,
    Model,
    Not,
    Or,
    Variable,
    Whose,
    all_of,
    any_of,
)

__all__ = ["LocalStates", "Move", "Values"]

#: Values of the globals, or of one secondary's locals, in the model's order.
Values = tuple[str, ...]
_Change = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Move:
    """What a CPU can do where the globals have some value.

    Attributes:
        after: The globals after it.
        others: What must hold of the other secondaries; `EACH` is all that it refers to.
        each: What happens to each of the others: position among the locals, and value.
        steps: Local states before and after of the secondary that moves, each pair one
            alternative; none for the jumping CPU.
    """

    after: Values
    others: Expr
    each: _Change
    steps: frozenset[tuple[Values, Values]]

    def effect(self, local: Values) -> Values:
        """What the move makes of the local state of another secondary."""
        return _assigned(local, self.each)


class LocalStates:
    """The globals and local states of a model that may occur, and its moves.

    Attributes:
        model: The model.
        start: The globals and the local state of every secondary in the initial state.
        views: Globals -> local states that may occur with them.
        locals: All local states, in order of discovery.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        shared, local = ({one.name: i for i, one in enumerate(of)} for of in _variables(model))
        self._index = {Whose.GLOBAL: shared, Whose.OWN: local, Whose.EACH: local}
        initial = [tuple(one.initial for one in of) for of in _variables(model)]
        self.start = initial[0], initial[1]
        self._changes = {one.name: self._change(one) for one in model.actions}
        self._guards: dict[tuple[Actor, Values], list[tuple[Action, Expr]]] = {}
        self._own: dict[tuple[Values, Values], list[Move]] = {}
        self._jumping: dict[Values, list[Move]] = {}
        self.views: dict[Values, set[Values]] = {}
        self._close()
        found = (local for locals_ in self.views.values() for local in locals_)
        self.locals = tuple(dict.fromkeys(found))

    def moves(self, shared: Values) -> list[Move]:
        """All moves with these globals; those of secondaries that differ in steps only, as one."""
        steps: dict[tuple[Values, Expr, _Change], set[tuple[Values, Values]]] = {}
        for local in self.views[shared]:
            for one in self._moves_of(shared, local):
                steps.setdefault((one.after, one.others, one.each), set()).update(one.steps)
        joined = [Move(*key, frozenset(pairs)) for key, pairs in steps.items()]
        # Where no secondary allows a move of the jumping CPU, none that exists does.
        jumping = [one for one in self._moves_of_jumping(shared) if one.after in self.views]
        return joined + jumping

    def given(self, expr: Expr, whose: Whose, values: Values) -> Expr:
        """What remains of an expression where the globals, or the locals of one CPU, are known."""
        match expr:
            case Member(ref, wanted) if ref.whose is whose:
                return Constant(values[self._index[whose][ref.name]] in wanted)
            case Not(operand):
                return ~self.given(operand, whose, values)
            case And(operands):
                left = []
                for part in operands:
                    left.append(self.given(part, whose, values))
                    if left[-1] == FALSE:
                        return FALSE
                return all_of(*left)
            case Or(operands):
                return any_of(*(self.given(part, whose, values) for part in operands))
            case All(body):
                inner = self.given(body, whose, values)
                return TRUE if inner == TRUE else All(inner)
            case Any(body):
                inner = self.given(body, whose, values)
                return FALSE if inner == FALSE else Any(inner)
        return expr

    def of_each(self, body: Expr, local: Values) -> bool:
        """The truth of a quantifier's body, nothing else being left in it, at one secondary."""
        match body:
            case Constant(value):
                return value
            case Member(ref, values):
                return local[self._index[Whose.EACH][ref.name]] in values
            case Not(operand):
                return not self.of_each(operand, local)
            case And(operands):
                return all(self.of_each(part, local) for part in operands)
            case Or(operands):
                return any(self.of_each(part, local) for part in operands)
        raise TypeError(f"not the body of a quantifier: {body!r}")

    def _close(self) -> None:
        """The views, as those of `check.views`; `Any` may always hold."""
        shared, local = self.start
        self._close_alone(shared)
        waiting = [(shared, local)]
        while waiting:
            shared, local = waiting.pop()
            known = self.views.setdefault(shared, set())
            if local not in known:
                known.add(local)
                waiting.extend(self._after(shared, local))

    def _close_alone(self, shared: Values) -> None:
        """The globals that may occur without any secondary."""
        waiting = [shared]
        while waiting:
            shared = waiting.pop()
            if shared not in self.views:
                self.views[shared] = set()
                moves = self._moves_of_jumping(shared)
                waiting.extend(one.after for one in moves if _holds_of_nobody(one.others))

    def _after(self, shared: Values, local: Values) -> Iterator[tuple[Values, Values]]:
        for move in self._moves_of_jumping(shared):
            yield from self._bystander(move, local)
        for move in self._moves_of(shared, local):
            for _, own in move.steps:
                yield move.after, own
            for other in self.views[shared]:
                yield from self._bystander(move, other)
        for other in self.views[shared]:
            for move in self._moves_of(shared, other):
                yield from self._bystander(move, local)

    def _bystander(self, move: Move, local: Values) -> Iterator[tuple[Values, Values]]:
        if self._allows(move.others, local):
            yield move.after, move.effect(local)

    def _allows(self, others: Expr, local: Values) -> bool:
        """May this hold while some other secondary is in this local state?"""
        match others:
            case All(body):
                return self.of_each(body, local)
            case And(operands):
                return all(self._allows(part, local) for part in operands)
            case Or(operands):
                return any(self._allows(part, local) for part in operands)
        return others != FALSE

    def _moves_of(self, shared: Values, local: Values) -> list[Move]:
        if (shared, local) not in self._own:
            self._own[shared, local] = list(self._enabled(Actor.SECONDARY, shared, local))
        return self._own[shared, local]

    def _moves_of_jumping(self, shared: Values) -> list[Move]:
        if shared not in self._jumping:
            self._jumping[shared] = list(self._enabled(Actor.JUMPING, shared, ()))
        return self._jumping[shared]

    def _enabled(self, actor: Actor, shared: Values, local: Values) -> Iterator[Move]:
        if (actor, shared) not in self._guards:
            self._guards[actor, shared] = [
                (action, guard)
                for action in self.model.actions
                if action.actor is actor
                and (guard := self.given(action.guard, Whose.GLOBAL, shared)) != FALSE
            ]
        for action, guard in self._guards[actor, shared]:
            others = self.given(guard, Whose.OWN, local) if local else guard
            if others != FALSE:
                change = self._changes[action.name]
                own = _assigned(local, change[Whose.OWN])
                steps = frozenset({(local, own)} if actor is Actor.SECONDARY else ())
                after = _assigned(shared, change[Whose.GLOBAL])
                yield Move(after, others, change[Whose.EACH], steps)

    def _change(self, action: Action) -> dict[Whose, _Change]:
        return {
            whose: tuple(
                (self._index[whose][one.target.name], one.value)
                for one in action.assigns
                if one.target.whose is whose
            )
            for whose in Whose
        }


def _holds_of_nobody(others: Expr) -> bool:
    match others:
        case And(operands):
            return all(map(_holds_of_nobody, operands))
        case Or(operands):
            return any(map(_holds_of_nobody, operands))
    return others == TRUE or isinstance(others, All)


def _variables(model: Model) -> tuple[tuple[Variable, ...], tuple[Variable, ...]]:
    return model.globals, model.locals


def _assigned(values: Values, change: _Change) -> Values:
    if not change:
        return values
    after = list(values)
    for index, value in change:
        after[index] = value
    return tuple(after)

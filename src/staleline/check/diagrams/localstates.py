# SPDX-License-Identifier: GPL-2.0-or-later
"""A model with its globals filled in: what each CPU can do, and which local states matter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

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
    Model,
    Not,
    OneOf,
    Or,
    Ref,
    Variable,
    Whose,
    all_of,
    any_of,
)

__all__ = ["LocalMove", "LocalStates", "Values"]

#: Values of the globals, or of one secondary's locals, in the model's order.
Values = tuple[str, ...]
_Change = tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class LocalMove:
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


@dataclass(frozen=True, slots=True, eq=False)
class _Effect:
    """What a move does and asks besides the mover's own step; each exists once.

    Attributes:
        shared: What happens to the globals.
        others: As in `LocalMove`.
        each: As in `LocalMove`.
        bystanders: Local state of some other secondary -> what becomes of it; none if the
            move cannot be taken beside it. Filled as it is asked for.
    """

    shared: _Change
    others: Expr
    each: _Change
    bystanders: dict[Values, Values | None]


@dataclass(frozen=True, slots=True, eq=False)
class _Partial:
    """An expression, and what remains of it once some values are known; each exists once.

    Attributes:
        expr: The expression.
        whose: Which variables are to be filled in next.
        reads: Positions of those that it reads.
        left: Their values -> what remains. Filled as it is asked for.
    """

    expr: Expr
    whose: Whose
    reads: tuple[int, ...]
    left: dict[Values, _Partial]


@dataclass(frozen=True, slots=True, eq=False)
class _Enabled:
    """An action, as far as some values of the globals allow it; each exists once.

    Attributes:
        change: What the action assigns.
        guard: What remains of its guard.
    """

    change: dict[Whose, _Change]
    guard: _Partial


@dataclass(slots=True)
class _Table:
    """What is known about one value of the globals.

    Attributes:
        enabled: The actions that secondaries may take.
        own: Local state -> what a secondary in it can do, and its local state after that;
            the same dictionary wherever the same is enabled.
        jumping: What the jumping CPU can do.
        after: What the jumping CPU or some secondary can do -> the globals after it.
        locals: Local states that may occur; a dictionary, as it keeps their order.
        steps: What some secondary can do -> its local states before and after.
    """

    enabled: tuple[_Enabled, ...]
    own: dict[Values, list[tuple[_Effect, Values]]]
    jumping: list[_Effect]
    after: dict[_Effect, Values]
    locals: dict[Values, None] = field(default_factory=dict)
    steps: dict[_Effect, set[tuple[Values, Values]]] = field(default_factory=dict)


class LocalStates:
    """The globals and local states of a model that may occur, and its moves.

    Attributes:
        model: The model.
        start: The globals and the local state of every secondary in the initial state.
        locals: All local states, in order of discovery.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        shared, local = ({one.name: i for i, one in enumerate(of)} for of in _variables(model))
        self._index = {Whose.GLOBAL: shared, Whose.OWN: local, Whose.EACH: local}
        initial = [tuple(one.initial for one in of) for of in _variables(model)]
        self.start = initial[0], initial[1]
        self._partials: dict[tuple[Expr, Whose], _Partial] = {}
        self._effects: dict[tuple[_Change, Expr, _Change], _Effect] = {}
        self._enabled: dict[tuple[str, _Partial], _Enabled] = {}
        self._own: dict[tuple[_Enabled, ...], dict[Values, list[tuple[_Effect, Values]]]] = {}
        self._guards = [
            (one, self._change(one), self._partial(one.guard, Whose.GLOBAL))
            for one in model.actions
        ]
        self._tables: dict[Values, _Table] = {}
        self._close()
        variables = chain.from_iterable(table.locals for table in self._tables.values())
        # All that occur with any number of secondaries, and more.
        self.locals = tuple(dict.fromkeys(variables))

    def moves(self, shared: Values) -> list[LocalMove]:
        """All moves with these globals; those of secondaries that differ in steps only, as one."""
        table = self._tables[shared]
        steps: dict[tuple[Values, Expr, _Change], set[tuple[Values, Values]]] = {}
        for effect, pairs in table.steps.items():
            key = table.after[effect], effect.others, effect.each
            steps.setdefault(key, set()).update(pairs)
        joined = [LocalMove(*key, frozenset(pairs)) for key, pairs in steps.items()]
        # Where no secondary allows a move of the jumping CPU, none that exists does.
        jumping = [
            LocalMove(table.after[effect], effect.others, effect.each, frozenset())
            for effect in table.jumping
            if table.after[effect] in self._tables
        ]
        return joined + jumping

    def successors(self, shared: Values) -> Iterator[Values]:
        """The globals after some move with these, perhaps more than once."""
        after = self._tables[shared].after.values()
        return (one for one in after if one in self._tables)

    def given(self, expr: Expr, whose: Whose, values: Values) -> Expr:
        """What remains of an expression where the globals, or the locals of one CPU, are known."""
        match expr:
            case OneOf(ref, wanted) if ref.whose is whose:
                return Constant(values[self._index[whose][ref.name]] in wanted)
            case Not(operand):
                return ~self.given(operand, whose, values)
            case And(operands):
                left = []
                for part in operands:
                    left.append(self.given(part, whose, values))
                    # Guards name the CPU's place first, which mostly settles them.
                    if left[-1] == FALSE:
                        return FALSE
                return all_of(*left)
            case Or(operands):
                return any_of(*(self.given(part, whose, values) for part in operands))
            case All(body):
                inner = self.given(body, whose, values)
                # All of nobody may still be meant: of `All`, false leaves a quantifier, and of
                # `Any` true does.
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
            case OneOf(ref, values):
                return local[self._index[Whose.EACH][ref.name]] in values
            case Not(operand):
                return not self.of_each(operand, local)
            case And(operands):
                return all(self.of_each(part, local) for part in operands)
            case Or(operands):
                return any(self.of_each(part, local) for part in operands)
        raise TypeError(f"not the body of a quantifier: {body!r}")

    def _close(self) -> None:
        """The views, as those of `check.search.views`; `Any` may always hold."""
        shared, local = self.start
        self._close_alone(shared)
        waiting = [(shared, local)]
        while waiting:
            shared, local = waiting.pop()
            table = self._table(shared)
            if local not in table.locals:
                table.locals[local] = None
                waiting.extend(self._after(shared, table, local))

    def _close_alone(self, shared: Values) -> None:
        """The globals that may occur without any secondary."""
        waiting = [shared]
        while waiting:
            shared = waiting.pop()
            if shared not in self._tables:
                table = self._table(shared)
                alone = (one for one in table.jumping if _holds_of_nobody(one.others))
                waiting.extend(table.after[one] for one in alone)

    def _after(
        self, shared: Values, table: _Table, local: Values
    ) -> Iterator[tuple[Values, Values]]:
        """Where a view leads that was just found, alone and beside those known already."""
        beside: dict[_Effect, Iterable[Values]]
        # A known effect was tried beside every earlier local state; beside a new one all have to
        # be.
        beside = dict.fromkeys((*table.jumping, *table.steps), (local,))
        for effect, own in self._alternatives(table, local):
            if effect not in table.steps:
                table.steps[effect] = set()
                table.after[effect] = _assigned(shared, effect.shared)
                beside[effect] = table.locals
            table.steps[effect].add((local, own))
            yield table.after[effect], own
        for effect, bystanders in beside.items():
            for bystander in bystanders:
                suffered = self._suffered(effect, bystander)
                if suffered is not None:
                    yield table.after[effect], suffered

    def _suffered(self, effect: _Effect, local: Values) -> Values | None:
        known = effect.bystanders
        if local not in known:
            allowed = self._allows(effect.others, local)
            known[local] = _assigned(local, effect.each) if allowed else None
        return known[local]

    def _allows(self, others: Expr, local: Values) -> bool:
        """May this hold while some other secondary is in this local state?"""
        match others:
            case All(body):
                return self.of_each(body, local)
            case And(operands):
                return all(self._allows(part, local) for part in operands)
            case Or(operands):
                return any(self._allows(part, local) for part in operands)
        # Of `Any` somebody else may be the witness.
        return others != FALSE

    def _table(self, shared: Values) -> _Table:
        if shared not in self._tables:
            # Tabled once for these globals: what remains of a guard then only asks about the other
            # secondaries.
            enabled = tuple(self._allowed(Actor.SECONDARY, shared))
            own = self._own.setdefault(enabled, {})
            allowed = self._allowed(Actor.JUMPING, shared)
            jumping = [self._effect(one.change, one.guard.expr) for one in allowed]
            after = {one: _assigned(shared, one.shared) for one in jumping}
            self._tables[shared] = _Table(enabled, own, jumping, after)
        return self._tables[shared]

    def _allowed(self, actor: Actor, shared: Values) -> Iterator[_Enabled]:
        for action, change, guard in self._guards:
            if action.actor is actor and (left := self._left(guard, shared)).expr != FALSE:
                key = action.name, left
                if key not in self._enabled:
                    self._enabled[key] = _Enabled(change, left)
                yield self._enabled[key]

    def _alternatives(self, table: _Table, local: Values) -> list[tuple[_Effect, Values]]:
        """What a secondary in a local state can do, and its local state after that."""
        if local not in table.own:
            table.own[local] = [
                (self._effect(change.change, left.expr), _assigned(local, change.change[Whose.OWN]))
                for change in table.enabled
                if (left := self._left(change.guard, local)).expr != FALSE
            ]
        return table.own[local]

    def _effect(self, change: dict[Whose, _Change], others: Expr) -> _Effect:
        key = change[Whose.GLOBAL], others, change[Whose.EACH]
        if key not in self._effects:
            self._effects[key] = _Effect(*key, {})
        return self._effects[key]

    def _left(self, partial: _Partial, values: Values) -> _Partial:
        """What remains of an expression, worked out once for values that it does not tell apart."""
        read = tuple([values[number] for number in partial.reads])
        if read not in partial.left:
            left = self.given(partial.expr, partial.whose, values)
            # The globals are filled in first, then the acting secondary's own variables.
            partial.left[read] = self._partial(left, Whose.OWN)
        return partial.left[read]

    def _partial(self, expr: Expr, whose: Whose) -> _Partial:
        if (expr, whose) not in self._partials:
            names = dict.fromkeys(ref.name for ref in _refs(expr) if ref.whose is whose)
            reads = tuple(self._index[whose][name] for name in names)
            self._partials[expr, whose] = _Partial(expr, whose, reads, {})
        return self._partials[expr, whose]

    def _change(self, action: Action) -> dict[Whose, _Change]:
        return {
            whose: tuple(
                (self._index[whose][assign.target.name], assign.value)
                for assign in action.assigns
                if assign.target.whose is whose
            )
            for whose in Whose
        }


def _refs(expr: Expr) -> Iterator[Ref]:
    """What an expression reads, perhaps more than once."""
    match expr:
        case OneOf(ref):
            yield ref
        case Not(inner) | All(inner) | Any(inner):
            yield from _refs(inner)
        case And(operands) | Or(operands):
            for operand in operands:
                yield from _refs(operand)


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

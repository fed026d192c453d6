# SPDX-License-Identifier: GPL-2.0-or-later
"""The reference interpreter: what a model means, written for clarity rather than speed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from staleline.model.form import (
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
    Whose,
)

__all__ = ["Move", "State", "holds", "initial", "moves", "reachable"]

#: Values of the globals, then of the locals of each secondary, in the model's order.
State = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]


@dataclass(frozen=True, slots=True)
class Move:
    """One action taken by one CPU.

    Attributes:
        action: The action.
        secondary: Index of the acting secondary from 0; None for the jumping CPU.
    """

    action: Action
    secondary: int | None


def initial(model: Model, secondaries: int) -> State:
    """The state in which every variable has its initial value."""
    local = tuple(variable.initial for variable in model.locals)
    return tuple(variable.initial for variable in model.globals), (local,) * secondaries


def moves(model: Model, state: State) -> Iterator[tuple[Move, State]]:
    """Every move that may be taken in a state, and the state it leads to."""
    for action in model.actions:
        actors = [None] if action.actor is Actor.JUMPING else range(len(state[1]))
        for actor in actors:
            if holds(model, action.guard, state, own=actor):
                yield Move(action, actor), _take(model, action, state, actor)


def holds(
    model: Model, expr: Expr, state: State, *, own: int | None = None, each: int | None = None
) -> bool:
    """The truth of an expression in a state.

    Args:
        model: The model that the state belongs to.
        expr: The expression.
        state: The state.
        own: Index of the acting secondary; None for the jumping CPU and for properties.
        each: Index of the secondary that an enclosing quantifier is at.
    """
    match expr:
        case Constant(value):
            return value
        case OneOf(ref, values):
            return _value(model, ref, state, own, each) in values
        case Not(operand):
            return not holds(model, operand, state, own=own, each=each)
        case And(operands):
            return all(holds(model, part, state, own=own, each=each) for part in operands)
        case Or(operands):
            return any(holds(model, part, state, own=own, each=each) for part in operands)
        case All(body):
            return all(holds(model, body, state, own=own, each=i) for i in _others(state, own))
        case Any(body):
            return any(holds(model, body, state, own=own, each=i) for i in _others(state, own))
    raise TypeError(f"not an expression of the form: {expr!r}")


def reachable(model: Model, secondaries: int) -> set[State]:
    """All states that can be reached, secondaries told apart."""
    reached = {initial(model, secondaries)}
    frontier = list(reached)
    while frontier:
        successors = {after for state in frontier for _, after in moves(model, state)}
        frontier = list(successors - reached)
        reached |= successors
    return reached


def _others(state: State, own: int | None) -> Iterator[int]:
    return (index for index in range(len(state[1])) if index != own)


def _value(model: Model, ref: Ref, state: State, own: int | None, each: int | None) -> str:
    if ref.whose is Whose.GLOBAL:
        return state[0][_index(model, ref)]
    index = own if ref.whose is Whose.OWN else each
    if index is None:
        raise ValueError(f"{ref.name}: no secondary to take it from")
    return state[1][index][_index(model, ref)]


def _index(model: Model, ref: Ref) -> int:
    variables = model.globals if ref.whose is Whose.GLOBAL else model.locals
    for index, variable in enumerate(variables):  # a generator costs twice as much here
        if variable.name == ref.name:
            return index
    raise ValueError(f"{ref.name}: no such variable")


def _take(model: Model, action: Action, state: State, own: int | None) -> State:
    """The state after an action; all assignments happen at once."""
    shared = list(state[0])
    secondaries = [list(local) for local in state[1]]
    for assign in action.assigns:
        index = _index(model, assign.target)
        match assign.target.whose:
            case Whose.GLOBAL:
                shared[index] = assign.value
            case Whose.OWN if own is not None:
                secondaries[own][index] = assign.value
            case Whose.EACH:
                for other in _others(state, own):
                    secondaries[other][index] = assign.value
    return tuple(shared), tuple(tuple(local) for local in secondaries)

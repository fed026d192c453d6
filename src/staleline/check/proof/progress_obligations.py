# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold for a measure to prove that the goal stays reachable, as queries.

`rank` is a function of the globals and `wait` one of a view; any functions will do. See
`check.proof.progress` for the argument. A guard helps here only where it is plain: free of
quantifiers, or with a single `All`, which then holds if it holds with each secondary.
"""

from __future__ import annotations

from collections.abc import Iterator

from staleline.check.proof.obligations import (
    OTHER,
    OWN,
    about,
    constants,
    globals_after,
    local_of,
    locals_after,
)
from staleline.check.proof.smt import Query, Terms, call, conjunction, disjunction, negation
from staleline.errors import ModelError
from staleline.model.form import Action, Actor, All, And, Any, Expr, Model, Or, Ref, Whose

__all__ = ["progress_obligations"]


def progress_obligations(model: Model) -> Iterator[Query]:
    """The obligations of a measure.

    Raises:
        ModelError: The goal has a quantifier.
    """
    # A rank is a function of the globals, and could not say where such a goal is reached.
    if _count(model.goal):
        raise ModelError("a goal with a quantifier", where=model.title, do="use globals only")
    name = model.goal_name
    # With two `All`s one secondary may fail the first and another the second: neither would be
    # asked.
    steps = [one for one in model.actions if one.actor is Actor.JUMPING and _count(one.guard) < 2]
    # A step that waits for other secondaries may wait for one that waits for it.
    own = [one for one in model.actions if one.actor is Actor.SECONDARY and not _count(one.guard)]
    unfinished = negation(_Guards(model, None).term(model.goal))
    stuck = negation(disjunction(_lower(model, one, "true") for one in steps))
    says = f"{name}: the jumping CPU has a step to a lower rank, waits aside"
    yield about(model, says, [OTHER], [unfinished, stuck])
    alone = call("alone", [one.name for one in model.globals])
    declared = tuple(constants(model.globals))
    yield Query(f"{says}, without secondaries", (alone, unfinished, stuck), declared)
    yield about(
        model,
        f"{name}: a secondary that is waited for has a step to a lower rank",
        [OWN],
        [unfinished, _waited_for(model, steps), *(_no_help(model, one) for one in own)],
    )
    for action in own:
        yield _harmless(model, name, action)


class _Guards(Terms):
    """Guards with what their `All` says given: a constant, or that of the own locals.

    Args:
        model: The model.
        every: What `All` is; None if it is taken at the own locals.
    """

    def __init__(self, model: Model, every: str | None) -> None:
        super().__init__(model)
        self._every = every

    def variable(self, ref: Ref) -> str:
        """The constant of this name; any secondary is the one of the query."""
        return ref.name if ref.whose is Whose.GLOBAL else local_of(OWN, ref.name)

    def every(self, body: Expr) -> str:
        """`All`, as given."""
        return self.term(body) if self._every is None else self._every

    def some(self, body: Expr) -> str:
        """Guards with `Any` are not used."""
        raise TypeError(f"{body!r}: no reader for it here")


def _waited_for(model: Model, steps: list[Action]) -> str:
    """Some step is kept back by the own secondary, and none goes on regardless of others."""
    kept_back = (
        conjunction([_lower(model, one, "true"), negation(_lower(model, one, None))])
        for one in steps
    )
    regardless = disjunction(_lower(model, one, "false") for one in steps)
    return conjunction([disjunction(kept_back), negation(regardless)])


def _lower(model: Model, action: Action, every: str | None) -> str:
    """A step of the jumping CPU is possible and leads to globals of a lower rank."""
    guard = _Guards(model, every).term(action.guard)
    return conjunction([guard, _less(_rank_after(model, action), _rank(model))])


def _no_help(model: Model, action: Action) -> str:
    """The secondary cannot take this step, or it does not lower the measure."""
    guard = _Guards(model, None).term(action.guard)
    sooner = conjunction([_same_rank(model, action), _less(*_waits(model, action, OWN))])
    lower = _less(_rank_after(model, action), _rank(model))
    return negation(conjunction([guard, disjunction([lower, sooner])]))


def _harmless(model: Model, name: str, action: Action) -> Query:
    """A step that lowers its own secondary's part raises no other's."""
    after, before = _waits(model, action, OTHER)
    return about(
        model,
        f"{name}: {action.function}: {action.name} raises no other's rank",
        [OWN, OTHER],
        [
            _Guards(model, None).term(action.guard),
            _same_rank(model, action),
            _less(*_waits(model, action, OWN)),
            _less(before, after),
        ],
    )


def _less(left: str, right: str) -> str:
    return call("bvult", [left, right])


def _rank(model: Model) -> str:
    return call("rank", [one.name for one in model.globals])


def _rank_after(model: Model, action: Action) -> str:
    return call("rank", globals_after(model, action))


def _same_rank(model: Model, action: Action) -> str:
    return call("=", [_rank_after(model, action), _rank(model)])


def _waits(model: Model, action: Action, secondary: str) -> tuple[str, str]:
    """How long a secondary is waited for, after and before an action."""
    shared = [one.name for one in model.globals]
    local = [local_of(secondary, one.name) for one in model.locals]
    changed = [*globals_after(model, action), *locals_after(model, action, secondary)]
    return call("wait", changed), call("wait", [*shared, *local])


def _count(expr: Expr) -> int:
    """Quantifiers in an expression; `Any` counts as too many."""
    match expr:
        case All(body):
            return 1 + _count(body)
        case Any():
            return 2
        case And(operands) | Or(operands):
            return sum(map(_count, operands))
    # Negation stands at memberships only (docs/proof.md), so that `Not` hides no quantifier.
    return 0

# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold for a set of views to prove a model, as quantifier-free queries.

The invariant says: every secondary, together with the globals, is one of the views; and where
there is no secondary, the globals are among those that the jumping CPU reaches alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from staleline.check.proof.smt import (
    Query,
    Terms,
    assigned,
    call,
    conjunction,
    negation,
    sort,
    value,
)
from staleline.model.form import Action, Actor, Expr, Model, Ref, Variable, Whose

__all__ = [
    "OTHER",
    "OWN",
    "about",
    "constants",
    "globals_after",
    "is_view",
    "local_of",
    "locals_after",
    "obligations",
]

#: The secondary that acts, and the one that is looked at.
OWN, OTHER = "own", "other"


def obligations(model: Model) -> Iterator[Query]:
    """The proof obligations of a model, whatever the set of views."""
    yield _initially(model)
    for action in model.actions:
        yield from _preserved(model, action)
    for item in model.properties:
        yield _excluded(model, item.name, item.violated)
    yield from _alone(model)


class _Instances(Terms):
    """Expressions about named secondaries.

    Args:
        model: The model.
        each: The secondary that `All` is taken at; None if it says nothing here.
        alone: There is no secondary.
    """

    def __init__(self, model: Model, *, each: str | None, alone: bool = False) -> None:
        super().__init__(model)
        self._model = model
        self._each = each
        self._alone = alone
        self._bound: str | None = None
        #: Names of the witnesses of each `Any`, in order.
        self.witnesses: list[str] = []

    def variable(self, ref: Ref) -> str:
        """The constant of this name, a secondary's own with its name before it."""
        if ref.whose is Whose.GLOBAL:
            return ref.name
        secondary = OWN if ref.whose is Whose.OWN else self._bound
        if secondary is None:
            raise TypeError(f"{ref.name}: no quantifier around it")
        return local_of(secondary, ref.name)

    def every(self, body: Expr) -> str:
        """What `All` says of the secondary that is looked at."""
        # Of nobody everything holds; of a secondary that the query does not name nothing is
        # assumed.
        if self._alone or self._each is None:
            return "true"
        return self._at(self._each, body)

    def some(self, body: Expr) -> str:
        """`Any`, by a witness whose view the invariant allows."""
        if self._alone:
            return "false"
        witness = f"witness{len(self.witnesses)}"
        self.witnesses.append(witness)
        # Nothing says that witness and named secondaries differ: less is assumed, and it may be one
        # of them.
        return conjunction([is_view(self._model, witness), self._at(witness, body)])

    def _at(self, secondary: str, body: Expr) -> str:
        outside, self._bound = self._bound, secondary
        inside = self.term(body)
        self._bound = outside
        return inside


def _initially(model: Model) -> Query:
    shared = [value(one.name, one.initial) for one in model.globals]
    local = [value(one.name, one.initial) for one in model.locals]
    return Query("initial state", (negation(call("view", [*shared, *local])),))


def _preserved(model: Model, action: Action) -> Iterator[Query]:
    """One query per secondary that an action may change the view of."""
    acts = f"{action.function}: {action.name}"
    if action.actor is Actor.JUMPING:
        yield _step(model, action, f"{acts}, any secondary", looked_at=OTHER)
    else:
        yield _step(model, action, f"{acts}, the secondary itself", looked_at=OWN)
        yield _step(model, action, f"{acts}, any other secondary", looked_at=OTHER)


def _step(model: Model, action: Action, name: str, *, looked_at: str) -> Query:
    """From views the action leads to a view of the secondary that is looked at."""
    # A secondary's own step asks `All` of others, of which this query names none.
    terms = _Instances(model, each=OTHER if looked_at == OTHER else None)
    guard = terms.term(action.guard)
    after = [*globals_after(model, action), *locals_after(model, action, looked_at)]
    named = {looked_at, *([OWN] if action.actor is Actor.SECONDARY else [])}
    return about(
        model,
        name,
        sorted(named),
        [guard, negation(call("view", after))],
        witnesses=terms.witnesses,
    )


def _excluded(model: Model, name: str, violated: Expr) -> Query:
    terms = _Instances(model, each=OTHER)
    broken = [terms.term(violated)]
    return about(model, f"{name} is not violated", [OTHER], broken, witnesses=terms.witnesses)


def _alone(model: Model) -> Iterator[Query]:
    """The obligations where there is no secondary."""
    without = ", without secondaries"
    terms = _Instances(model, each=None, alone=True)
    initial = [value(one.name, one.initial) for one in model.globals]
    yield Query(f"initial state{without}", (negation(call("alone", initial)),))
    before = call("alone", [one.name for one in model.globals])
    declared = tuple(constants(model.globals))
    for action in model.actions:
        if action.actor is Actor.JUMPING:
            after = negation(call("alone", globals_after(model, action)))
            name = f"{action.function}: {action.name}{without}"
            yield Query(name, (before, terms.term(action.guard), after), declared)
    for item in model.properties:
        name = f"{item.name} is not violated{without}"
        yield Query(name, (before, terms.term(item.violated)), declared)


def about(
    model: Model,
    name: str,
    secondaries: list[str],
    asserted: list[str],
    *,
    witnesses: Sequence[str] = (),
) -> Query:
    """A query about these secondaries, all of whose views the invariant allows."""
    # The invariant is quantified over secondaries. Taken from it, and from an `All` in a guard, is
    # only what they say of the few that a query names: the one that acts, the one that is looked at
    # afterwards, and a witness for every `Any`. Less is assumed, so ``unsat`` still proves the
    # step, for every number of secondaries.
    known = [is_view(model, secondary) for secondary in secondaries]
    declared = list(constants(model.globals))
    for secondary in (*secondaries, *witnesses):
        declared += constants(model.locals, secondary)
    return Query(name, (*known, *asserted), tuple(declared))


def is_view(model: Model, secondary: str) -> str:
    """The globals with this secondary's locals are a view."""
    shared = [one.name for one in model.globals]
    return call("view", [*shared, *(local_of(secondary, one.name) for one in model.locals)])


def locals_after(model: Model, action: Action, secondary: str) -> list[str]:
    """The locals of a secondary after an action, which is its own if it is `OWN`."""
    changed = assigned(action.assigns, Whose.OWN if secondary == OWN else Whose.EACH)
    return [changed.get(one.name, local_of(secondary, one.name)) for one in model.locals]


def globals_after(model: Model, action: Action) -> list[str]:
    """The globals after an action."""
    changed = assigned(action.assigns, Whose.GLOBAL)
    return [changed.get(one.name, one.name) for one in model.globals]


def constants(variables: tuple[Variable, ...], secondary: str | None = None) -> Iterator[str]:
    """Declarations of globals, or of the locals of a secondary."""
    for one in variables:
        name = one.name if secondary is None else local_of(secondary, one.name)
        yield f"(declare-const {name} {sort(one.name)})"


def local_of(secondary: str, name: str) -> str:
    """A secondary's own constant for a variable."""
    return f"{secondary}.{name}"

# SPDX-License-Identifier: GPL-2.0-or-later
"""What has to hold for a set of views to prove a model, as quantifier-free queries.

The invariant says: every secondary, together with the globals, is one of the views; and
where there is no secondary, the globals are among those that the jumping CPU reaches alone.
It is quantified over secondaries. A query takes from it, and from an `All` in a guard, only
what they say of the few secondaries that it names: the one that acts, the one that is
looked at afterwards, and a witness for every `Any`. Less is assumed, so ``unsat`` still
proves the step, for every number of secondaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from staleline.check.closures import Values
from staleline.check.smt import (
    Query,
    Terms,
    as_bitvectors,
    assigned,
    call,
    conjunction,
    disjunction,
    equal,
    negation,
    script,
    sort,
    value,
)
from staleline.model.form import Action, Actor, Expr, Model, Ref, Variable, Whose

__all__ = ["ViewSet", "obligations", "smtlib"]

#: The secondary that acts, and the one that is looked at.
_OWN, _OTHER = "own", "other"


@dataclass(frozen=True, slots=True)
class ViewSet:
    """A candidate invariant of one model, as plain values.

    Attributes:
        alone: Values of the globals that are allowed where there is no secondary.
        views: Values of the globals -> those of one secondary's locals allowed with them.
    """

    alone: frozenset[Values]
    views: Mapping[Values, frozenset[Values]]

    @property
    def count(self) -> int:
        """Number of views."""
        return sum(map(len, self.views.values()))


def smtlib(model: Model, views: ViewSet) -> str:
    """The whole proof as an SMT-LIB 2 script in QF_BV, one query per obligation.

    A solver that answers ``unsat`` to every ``check-sat`` has proved the model's properties,
    its goal aside, for every number of secondaries. The queries are in the order of
    `obligations`.
    """
    heading = (
        model.title,
        "A set of views is an inductive invariant that excludes every violation, for any",
        "number of secondaries. Every answer is expected to be unsat.",
    )
    return script(heading, _prelude(model, views), obligations(model))


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
        secondary = _OWN if ref.whose is Whose.OWN else self._bound
        if secondary is None:
            raise TypeError(f"{ref.name}: no quantifier around it")
        return _of(secondary, ref.name)

    def every(self, body: Expr) -> str:
        """What `All` says of the secondary that is looked at."""
        if self._alone or self._each is None:
            return "true"
        return self._at(self._each, body)

    def some(self, body: Expr) -> str:
        """`Any`, by a witness whose view the invariant allows."""
        if self._alone:
            return "false"
        witness = f"witness{len(self.witnesses)}"
        self.witnesses.append(witness)
        return conjunction([_is_view(self._model, witness), self._at(witness, body)])

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
        yield _step(model, action, f"{acts}, any secondary", looked_at=_OTHER)
    else:
        yield _step(model, action, f"{acts}, the secondary itself", looked_at=_OWN)
        yield _step(model, action, f"{acts}, any other secondary", looked_at=_OTHER)


def _step(model: Model, action: Action, name: str, *, looked_at: str) -> Query:
    """From views the action leads to a view of the secondary that is looked at."""
    terms = _Instances(model, each=_OTHER if looked_at == _OTHER else None)
    guard = terms.term(action.guard)
    named = {looked_at, *([_OWN] if action.actor is Actor.SECONDARY else [])}
    return _query(
        model,
        name,
        sorted(named),
        terms,
        [guard, negation(_is_view_after(model, action, looked_at))],
    )


def _excluded(model: Model, name: str, violated: Expr) -> Query:
    terms = _Instances(model, each=_OTHER)
    return _query(model, f"{name} is not violated", [_OTHER], terms, [terms.term(violated)])


def _alone(model: Model) -> Iterator[Query]:
    """The obligations where there is no secondary."""
    without = ", without secondaries"
    terms = _Instances(model, each=None, alone=True)
    initial = [value(one.name, one.initial) for one in model.globals]
    yield Query(f"initial state{without}", (negation(call("alone", initial)),))
    before = call("alone", [one.name for one in model.globals])
    declared = tuple(_constants(model.globals))
    for action in model.actions:
        if action.actor is Actor.JUMPING:
            after = negation(call("alone", _globals_after(model, action)))
            name = f"{action.function}: {action.name}{without}"
            yield Query(name, (before, terms.term(action.guard), after), declared)
    for item in model.properties:
        name = f"{item.name} is not violated{without}"
        yield Query(name, (before, terms.term(item.violated)), declared)


def _query(
    model: Model, name: str, secondaries: list[str], terms: _Instances, asserted: list[str]
) -> Query:
    """A query about these secondaries, all of whose views the invariant allows."""
    known = [_is_view(model, secondary) for secondary in secondaries]
    declared = list(_constants(model.globals))
    for secondary in (*secondaries, *terms.witnesses):
        declared += _constants(model.locals, secondary)
    return Query(name, (*known, *asserted), tuple(declared))


def _is_view(model: Model, secondary: str) -> str:
    shared = [one.name for one in model.globals]
    return call("view", [*shared, *(_of(secondary, one.name) for one in model.locals)])


def _is_view_after(model: Model, action: Action, secondary: str) -> str:
    changed = assigned(action.assigns, Whose.OWN if secondary == _OWN else Whose.EACH)
    local = [changed.get(one.name, _of(secondary, one.name)) for one in model.locals]
    return call("view", [*_globals_after(model, action), *local])


def _globals_after(model: Model, action: Action) -> list[str]:
    changed = assigned(action.assigns, Whose.GLOBAL)
    return [changed.get(one.name, one.name) for one in model.globals]


def _constants(variables: tuple[Variable, ...], secondary: str | None = None) -> Iterator[str]:
    for one in variables:
        name = one.name if secondary is None else _of(secondary, one.name)
        yield f"(declare-const {name} {sort(one.name)})"


def _of(secondary: str, name: str) -> str:
    return f"{secondary}.{name}"


def _prelude(model: Model, views: ViewSet) -> Iterator[str]:
    yield "(set-logic QF_BV)"
    for variable in (*model.globals, *model.locals):
        yield from as_bitvectors(variable)
    yield "; Without secondaries: what the globals may be."
    yield _function("alone", model.globals, _rows(model.globals, views.alone))
    yield "; With secondaries: what the globals and any one secondary may be together."
    pairs = (
        f"\n  {conjunction([_are(model.globals, shared), _one_of(model.locals, locals_)])}"
        for shared, locals_ in sorted(views.views.items())
    )
    yield _function("view", (*model.globals, *model.locals), pairs)


def _function(name: str, variables: tuple[Variable, ...], cases: Iterator[str]) -> str:
    parameters = " ".join(f"({one.name} {sort(one.name)})" for one in variables)
    return f"(define-fun {name} ({parameters}) Bool {disjunction(cases)})"


def _one_of(variables: tuple[Variable, ...], rows: frozenset[Values]) -> str:
    return disjunction(f"\n    {_are(variables, row)}" for row in sorted(rows))


def _rows(variables: tuple[Variable, ...], rows: frozenset[Values]) -> Iterator[str]:
    return (f"\n  {_are(variables, row)}" for row in sorted(rows))


def _are(variables: tuple[Variable, ...], row: Values) -> str:
    return conjunction(
        equal(one.name, value(one.name, held)) for one, held in zip(variables, row, strict=True)
    )

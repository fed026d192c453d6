# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks a written invariant over any set of secondaries, condition by condition, by z3.

Secondaries are the elements of an uninterpreted sort for which `here` holds, so there may
be any number of them, none included. A local variable is a function from secondaries to its
values. Quantifiers are left to the solver: nothing is instantiated or abstracted here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from staleline.check.proof.handover_invariant import Clause, invariant
from staleline.check.proof.smt import (
    Query,
    Terms,
    as_datatypes,
    assigned,
    call,
    conjunction,
    equal,
    negation,
    script,
    sort,
    value,
)
from staleline.check.proof.solver import TIME_LIMIT, Reply, ask
from staleline.errors import ModelError
from staleline.model.form import Action, Actor, Expr, Model, Ref, Whose
from staleline.model.scenario import Path, ReportOrder, Scenario
from staleline.model.world import world

__all__ = [
    "InvariantCheck",
    "check_invariant",
    "conditions",
    "invariant_smtlib",
    "is_written_for",
]

#: Parameters of scenarios of which the invariant covers every value.
_COVERED = (
    "old_encrypts",
    "next_encrypts",
    "incoherent",
    "foreign",
    "flush_secondary",
    "flush_jumping",
    "flush_faults",
    "secondaries",
    "flush_at_load",
    "load_settled",
    "clears_stop_mask",
)

#: The secondary that acts.
_ACTING = "acting"


@dataclass(frozen=True, slots=True)
class InvariantCheck:
    """The check of an invariant.

    Attributes:
        conditions: Number of conditions.
        failures: Line role with each condition that z3 does not confirm.
    """

    conditions: int
    failures: tuple[tuple[str, Query], ...]

    @property
    def holds(self) -> bool:
        """The invariant is inductive and excludes every violation."""
        return not self.failures


def check_invariant(scenario: Scenario) -> InvariantCheck:
    """Check the written invariant of every line role of a handover.

    Args:
        scenario: A kexec with the report after the flush.

    Raises:
        ModelError: The invariant is not written for this path or order, or z3 refused.
    """
    if not is_written_for(scenario):
        # Checked here and not left to z3, which would name clauses that fail for no fault of the
        # handover.
        raise ModelError(
            "no readable invariant for the crash path, a report before the flush, or a variant",
            where="scenario",
            do="use the certificate of `staleline prove --certificate`",
        )
    cases = [(line, model, invariant(scenario, line)) for line, model in world(scenario)]
    scripts = [invariant_smtlib(model, clauses) for _, model, clauses in cases]
    failures: list[tuple[str, Query]] = []
    total = 0
    for (line, model, clauses), replies in zip(
        cases, ask(scripts, time_limit=TIME_LIMIT), strict=True
    ):
        total += len(replies)
        for condition, reply in zip(conditions(model, clauses), replies, strict=True):
            if reply is not Reply.UNSAT:
                failures.append((str(line.role), condition))
    return InvariantCheck(total, tuple(failures))


def is_written_for(scenario: Scenario) -> bool:
    """Is it a kexec with the report after the flush, in a world without variants?"""
    # Named are the parameters that are covered: one that a scenario gains later is not, by its
    # default.
    plain = Scenario(
        path=Path.KEXEC,
        report=ReportOrder.AFTER_FLUSH,
        **{name: getattr(scenario, name) for name in _COVERED},
    )
    return plain == scenario


def invariant_smtlib(model: Model, clauses: Sequence[Clause]) -> str:
    """All conditions as an SMT-LIB 2 script, each expected ``unsat``."""
    heading = (
        model.title,
        "A written invariant over any set of secondaries: it holds at first, every step keeps",
        "each clause, and it excludes every violation. Every answer is expected to be unsat.",
    )
    return script(heading, _prelude(model, clauses), conditions(model, clauses))


def conditions(model: Model, clauses: Sequence[Clause]) -> Iterator[Query]:
    """Every condition, in the order in which the script asks; ``unsat`` confirms it."""
    for clause in clauses:
        broken = negation(_Initially(model).term(clause.holds))
        yield _condition(f"{clause.name}: at first", (broken,))
    known = tuple(_name(number) for number, _ in enumerate(clauses))
    for action in model.actions:
        for clause in clauses:
            yield _kept(model, action, clause, known)
    for item in model.properties:
        violated = _Now(model).term(item.violated)
        yield _condition(f"{item.name}: excluded", (*known, violated))


def _kept(model: Model, action: Action, clause: Clause, known: tuple[str, ...]) -> Query:
    acts = action.actor is Actor.SECONDARY
    guard = _Now(model, acting=acts).term(action.guard)
    broken = negation(_After(model, action).term(clause.holds))
    here = (call("here", [_ACTING]),) if acts else ()
    name = f"{clause.name}: kept by {action.function}: {action.name}"
    return _condition(name, (*known, *here, guard, broken))


def _condition(name: str, asserted: tuple[str, ...]) -> Query:
    return Query(name, asserted, (f"(declare-const {_ACTING} Secondary)",))


class _Now(Terms):
    """Expressions over the present state.

    Args:
        model: The model.
        acting: A secondary acts, and quantifiers range over the others.
    """

    def __init__(self, model: Model, *, acting: bool = False) -> None:
        super().__init__(model)
        self._acting = acting
        self._bound: list[str] = []

    def variable(self, ref: Ref) -> str:
        """A constant, or a function at a secondary."""
        if ref.whose is Whose.GLOBAL:
            return ref.name
        return call(ref.name, [self._secondary(ref)])

    def every(self, body: Expr) -> str:
        """A universal quantifier over the secondaries that are meant."""
        return self._quantified("forall", "=>", body)

    def some(self, body: Expr) -> str:
        """An existential quantifier over them."""
        return self._quantified("exists", "and", body)

    def _secondary(self, ref: Ref) -> str:
        if ref.whose is Whose.OWN:
            return _ACTING
        return self._bound[-1]

    def _quantified(self, quantifier: str, connective: str, body: Expr) -> str:
        name = f"s{len(self._bound)}"
        self._bound.append(name)
        # By depth, so that an inner quantifier does not capture the variable of an outer one.
        inner = self.term(body)
        self._bound.pop()
        meant = [call("here", [name])]
        if self._acting:
            meant.append(negation(equal(name, _ACTING)))
        return (
            f"({quantifier} (({name} Secondary)) {call(connective, [conjunction(meant), inner])})"
        )


class _After(_Now):
    """Clauses over the state after an action; their quantifiers range over all secondaries."""

    def __init__(self, model: Model, action: Action) -> None:
        super().__init__(model)
        self._own = assigned(action.assigns, Whose.OWN)
        self._each = assigned(action.assigns, Whose.EACH)
        self._shared = assigned(action.assigns, Whose.GLOBAL)
        self._by_secondary = action.actor is Actor.SECONDARY

    def variable(self, ref: Ref) -> str:
        """What the action assigned, or else the present value."""
        if ref.whose is Whose.GLOBAL:
            return self._shared.get(ref.name, ref.name)
        before = super().variable(ref)
        others = self._each.get(ref.name, before)
        own = self._own.get(ref.name, before)
        if not self._by_secondary or own == others:
            return others
        return call("ite", [equal(self._secondary(ref), _ACTING), own, others])


class _Initially(_Now):
    """Expressions over the initial state."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        variables = (*model.globals, *model.locals)
        self._initial = {one.name: value(one.name, one.initial) for one in variables}

    def variable(self, ref: Ref) -> str:
        """The initial value."""
        return self._initial[ref.name]


def _prelude(model: Model, clauses: Sequence[Clause]) -> Iterator[str]:
    yield "(set-logic ALL)"
    yield "(declare-sort Secondary 0)"
    # A sort of SMT-LIB is never empty; a predicate on it may be, and so there may be no secondary.
    yield "(declare-fun here (Secondary) Bool)"
    for variable in (*model.globals, *model.locals):
        # An enumeration has no further elements, which no clause would exclude; a bit-vector may
        # have.
        yield from as_datatypes(variable)
    for variable in model.globals:
        yield f"(declare-const {variable.name} {sort(variable.name)})"
    for variable in model.locals:
        yield f"(declare-fun {variable.name} (Secondary) {sort(variable.name)})"
    for number, clause in enumerate(clauses):
        yield f"; {clause.name}: {clause.says}"
        yield f"(define-fun {_name(number)} () Bool {_Now(model).term(clause.holds)})"


def _name(number: int) -> str:
    return f"clause{number + 1}"

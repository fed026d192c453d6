# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole proof of a model for every number of secondaries, as one SMT-LIB 2 script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from staleline.check.meaning.closures import Values
from staleline.check.proof.obligations import obligations
from staleline.check.proof.progress_obligations import progress_obligations
from staleline.check.proof.smt import (
    Query,
    as_bitvectors,
    conjunction,
    disjunction,
    equal,
    script,
    sort,
    value,
)
from staleline.model.form import Model, Variable

__all__ = ["ViewSet", "queries", "smtlib"]


@dataclass(frozen=True, slots=True)
class ViewSet:
    """A candidate proof of one model, as plain values.

    Attributes:
        alone: Values of the globals that are allowed where there is no secondary.
        views: Values of the globals -> those of one secondary's locals allowed with them.
        ranks: Values of the globals -> their rank, see `check.proof.progress`.
        waits: Values of a view -> how long its secondary is waited for.
    """

    alone: frozenset[Values]
    views: Mapping[Values, frozenset[Values]]
    ranks: Mapping[Values, int]
    waits: Mapping[tuple[Values, Values], int]


def smtlib(model: Model, views: ViewSet) -> str:
    """The proof as a script in QF_BV, with the queries of `queries`.

    A solver that answers ``unsat`` to every ``check-sat`` has proved the model's properties
    and that its goal stays reachable, for every number of secondaries.
    """
    heading = (
        model.title,
        "A set of views is an inductive invariant that excludes every violation, and a measure",
        "leads from each to the goal, for any number of secondaries. Every answer is expected",
        "to be unsat.",
    )
    return script(heading, _prelude(model, views), queries(model))


def queries(model: Model) -> Iterator[Query]:
    """Everything that has to be confirmed of a model, whatever the proof."""
    yield from obligations(model)
    yield from progress_obligations(model)


def _prelude(model: Model, views: ViewSet) -> Iterator[str]:
    yield "(set-logic QF_BV)"
    for variable in (*model.globals, *model.locals):
        yield from as_bitvectors(variable)
    yield "; Without secondaries: what the globals may be."
    yield _function("alone", model.globals, _rows(model.globals, views.alone))
    yield "; With secondaries: what the globals and any one secondary may be together."
    pairs = (
        f"\n  {conjunction([_are(model.globals, shared), _one_of(model.locals, locals_)])}"
        # Sorted here as elsewhere: sets have no order of their own, and equal proofs are to be
        # equal texts.
        for shared, locals_ in sorted(views.views.items())
    )
    both = (*model.globals, *model.locals)
    yield _function("view", both, pairs)
    # Ranks are compared and never added up, so that none can overflow this width.
    highest = max((*views.ranks.values(), *views.waits.values()), default=0)
    width = max(1, highest.bit_length())
    yield "; The measure: ranks of the globals, and how long each secondary is waited for."
    yield _measure("rank", width, model.globals, views.ranks)
    yield _measure("wait", width, both, {(*a, *b): rank for (a, b), rank in views.waits.items()})


def _measure(
    name: str, width: int, variables: tuple[Variable, ...], ranks: Mapping[Values, int]
) -> str:
    """A function from rows to their ranks; 0 for every other row."""
    rows: dict[int, list[Values]] = {}
    for row, rank in sorted(ranks.items()):
        rows.setdefault(rank, []).append(row)
    term = f"#b{0:0{width}b}"
    for rank in sorted(rows):
        if rank:
            term = (
                f"\n  (ite {_one_of(variables, frozenset(rows[rank]))} #b{rank:0{width}b} {term})"
            )
    parameters = " ".join(f"({one.name} {sort(one.name)})" for one in variables)
    return f"(define-fun {name} ({parameters}) (_ BitVec {width}) {term})"


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

# SPDX-License-Identifier: GPL-2.0-or-later
"""The form as SMT-LIB 2 terms, from its definition alone.

This is a reader of its own: it shares nothing with the interpreter, the search or the
views, so that a solver that agrees with them confirms more than their common code. What z3
checks here is the text that anybody can give to another solver.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from staleline.model.form import (
    All,
    And,
    Any,
    Assign,
    Constant,
    Expr,
    Model,
    Not,
    OneOf,
    Or,
    Ref,
    Variable,
    Whose,
)

__all__ = [
    "Query",
    "Terms",
    "as_bitvectors",
    "as_datatypes",
    "assigned",
    "call",
    "conjunction",
    "disjunction",
    "equal",
    "negation",
    "script",
    "sort",
    "value",
]


@dataclass(frozen=True, slots=True)
class Query:
    """One question to a solver; it is settled when the answer is ``unsat``.

    Attributes:
        name: What is proved by ``unsat``, in one line.
        asserted: Terms that together cannot hold.
        declared: Declarations that only this query needs.
    """

    name: str
    asserted: tuple[str, ...]
    declared: tuple[str, ...] = ()


class Terms(ABC):
    """Expressions as terms; what a variable and a quantifier become is left open.

    Args:
        model: The model that the expressions are about.
    """

    def __init__(self, model: Model) -> None:
        self._domains = {one.name: one.domain for one in (*model.globals, *model.locals)}

    def term(self, expr: Expr) -> str:
        """An expression as a Boolean term."""
        match expr:
            case Constant(holds):
                return "true" if holds else "false"
            case OneOf(ref, values):
                return disjunction(
                    equal(self.variable(ref), value(ref.name, member))
                    # In the domain's order, as that of a set of strings differs from run to run.
                    for member in self._domains[ref.name]
                    if member in values
                )
            case Not(operand):
                return negation(self.term(operand))
            case And(operands):
                return conjunction(map(self.term, operands))
            case Or(operands):
                return disjunction(map(self.term, operands))
            case All(body):
                return self.every(body)
            case Any(body):
                return self.some(body)
        raise TypeError(f"not an expression of the form: {expr!r}")

    @abstractmethod
    def variable(self, ref: Ref) -> str:
        """The term that stands for one copy of a variable."""

    @abstractmethod
    def every(self, body: Expr) -> str:
        """`All`."""

    @abstractmethod
    def some(self, body: Expr) -> str:
        """`Any`."""


def sort(name: str) -> str:
    """The sort of a variable."""
    # Capitals keep sorts apart from variables, whose names are lower-case.
    return name.capitalize()


def value(name: str, one: str) -> str:
    """The constant for one value of a variable."""
    return f"{name}.{one}"


def call(function: str, arguments: Iterable[str]) -> str:
    """A function applied to terms."""
    return f"({' '.join([function, *arguments])})"


def equal(left: str, right: str) -> str:
    """Equality."""
    return f"(= {left} {right})"


def negation(term: str) -> str:
    """Not."""
    return f"(not {term})"


def conjunction(terms: Iterable[str]) -> str:
    """All of the terms; ``true`` for none."""
    return _joined("and", "true", list(terms))


def disjunction(terms: Iterable[str]) -> str:
    """Any of the terms; ``false`` for none."""
    return _joined("or", "false", list(terms))


def _joined(function: str, neutral: str, terms: list[str]) -> str:
    if len(terms) < 2:
        # Core's `and` and `or` take two arguments at least (SMT-LIB 2.6).
        return terms[0] if terms else neutral
    return call(function, terms)


def assigned(assigns: Iterable[Assign], whose: Whose) -> dict[str, str]:
    """Variable name -> constant, for the assignments of an action to one kind of copy."""
    return {
        assign.target.name: value(assign.target.name, assign.value)
        for assign in assigns
        if assign.target.whose is whose
    }


def as_bitvectors(variable: Variable) -> Iterator[str]:
    """Declare a variable's sort as numbered bit-vectors, which every solver reads."""
    # SMT-LIB has no bit-vectors of width 0.
    width = max(1, (len(variable.domain) - 1).bit_length())
    name = sort(variable.name)
    yield f"(define-sort {name} () (_ BitVec {width}))"
    for number, one in enumerate(variable.domain):
        yield f"(define-fun {value(variable.name, one)} () {name} #b{number:0{width}b})"


def as_datatypes(variable: Variable) -> Iterator[str]:
    """Declare a variable's sort as an enumeration, which has no other elements."""
    values = " ".join(f"({value(variable.name, one)})" for one in variable.domain)
    yield f"(declare-datatypes (({sort(variable.name)} 0)) (({values})))"


def script(heading: Sequence[str], prelude: Iterable[str], queries: Iterable[Query]) -> str:
    """An SMT-LIB 2 script that asks every query, each expected ``unsat``.

    Args:
        heading: Lines of the comment at the top.
        prelude: Logic, sorts, constants and functions.
        queries: The queries.
    """
    lines = [*(f"; {line}".rstrip() for line in heading), "(set-info :smt-lib-version 2.6)"]
    lines += prelude
    for query in queries:
        lines += ["", f"; {query.name}", "(push 1)", *query.declared]
        lines += [f"(assert {term})" for term in query.asserted]
        lines += ["(check-sat) ; expected: unsat", "(pop 1)"]
    return "\n".join([*lines, ""])

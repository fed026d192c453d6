# SPDX-License-Identifier: GPL-2.0-or-later
"""A model in Murphi, as rumur reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from staleline.check.export.naming import Naming, joined, naming_of, narrated, place, wrapped
from staleline.model.form import (
    Action,
    Actor,
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
    Property,
    Ref,
    Whose,
)

__all__ = ["murphi"]

#: Index variables of the acting secondary and of the one that a quantifier is at.
_ME, _OTHER = "me", "other"

#: Words that no value may be called.
#: rumur's keywords, and in the last line names that are used here.
_WORDS = """\
alias array assert assume begin boolean by case clear const cover do else elsif end endalias
endexists endfor endforall endfunction endif endprocedure endrecord endrule endruleset
endstartstate endswitch endwhile enum error exists false for forall from function if in
interleaved invariant isundefined liveness map of procedure process program property put real
record return rule ruleset scalarset startstate static switch then to true traceuntil type
undefine union var while secondary me other secondaries"""

_USE = """\
Check it:
  rumur --deadlock-detection off --output handover.c FILE
  cc -std=c11 -O2 -march=native -o handover handover.c -lpthread   (x86-64: also -mcx16)
  ./handover
A state from which nothing goes on is no error by itself, so rumur's detection of deadlocks is
off: a CPU that faulted, or hangs, is found by the properties. "liveness" is an addition of
rumur's; for CMurphi, take that property out."""


def murphi(model: Model, secondaries: int, *, symmetry: bool = True) -> str:
    """The text of a Murphi model.

    Args:
        model: The model.
        secondaries: Number of secondaries, at least 0.
        symmetry: Make secondaries a scalarset, so that states that differ by a permutation
            of them are one; else a subrange, and they are told apart.
    """
    return "\n".join(_Printer(model, secondaries, symmetry=symmetry).lines()) + "\n"


class _Printer:
    """Walks one model."""

    def __init__(self, model: Model, secondaries: int, *, symmetry: bool) -> None:
        self._model = model
        self._secondaries = secondaries
        self._symmetry = symmetry
        self._naming: Naming = naming_of(model, frozenset(_WORDS.split()))

    def lines(self) -> Iterator[str]:
        yield from self._heading()
        yield from self._declarations()
        yield from self._start()
        for action in self._model.actions:
            if action.actor is Actor.JUMPING or self._secondaries:
                yield from ("", *self._rule(action))
        for item in self._model.properties:
            yield from ("", *self._invariant(item))
        yield from ("", *self._liveness())

    def _heading(self) -> Iterator[str]:
        noun = "secondary" if self._secondaries == 1 else "secondaries"
        yield f"-- {self._model.title}: the jumping CPU and {self._secondaries} {noun}."
        yield from (f"-- {line}".rstrip() for line in ("", *_USE.splitlines()))

    def _declarations(self) -> Iterator[str]:
        # Murphi has no empty type: without secondaries nothing is printed that names one.
        if self._secondaries:
            kind = "scalarset(SECONDARIES)" if self._symmetry else "0 .. SECONDARIES - 1"
            yield from ("", "const", f"  SECONDARIES: {self._secondaries};")
            yield from ("", "type", f"  secondary: {kind};")
        else:
            yield from ("", "type")
        for domain in self._naming.domains:
            yield f"  {domain.name}_t: enum {{"
            yield from (f"    {line}" for line in wrap(", ".join(domain.names.values()), 90))
            yield "  };"
        yield from ("", "var")
        for name, domain in self._naming.of_globals.items():
            yield f"  {name}: {domain.name}_t;"
        for name, domain in self._naming.of_locals.items() if self._secondaries else ():
            yield f"  {name}: array [secondary] of {domain.name}_t;"

    def _start(self) -> Iterator[str]:
        yield from ("", "startstate", "begin")
        for variable in self._model.globals:
            yield f"  {self._assigned(Ref(Whose.GLOBAL, variable.name).becomes(variable.initial))}"
        if self._secondaries:
            yield f"  for {_OTHER}: secondary do"
            for variable in self._model.locals:
                target = Ref(Whose.EACH, variable.name)
                yield f"    {self._assigned(target.becomes(variable.initial))}"
            yield "  end;"
        yield "end;"

    def _rule(self, action: Action) -> Iterator[str]:
        yield from (f"-- {line}" for line in narrated(action))
        rule = [
            f'rule "{action.name}"',
            *self._guard(action),
            "==>",
            "begin",
            *(f"  {line}" for line in self._body(action)),
            "end;",
        ]
        if action.actor is Actor.JUMPING:
            yield from rule
        else:
            yield from _indented(f"ruleset {_ME}: secondary do", rule)

    def _guard(self, action: Action) -> Iterator[str]:
        guard = action.guard
        parts = guard.operands if isinstance(guard, And) else (guard,)
        for number, part in enumerate(parts):
            text = self._expr(part, action.actor)
            yield f"  {'& ' if number else ''}{text}"

    def _body(self, action: Action) -> Iterator[str]:
        # Assigned values are constants, so statements in a row mean what the form's simultaneous
        # assignments mean, and no temporaries are needed.
        each = [assign for assign in action.assigns if assign.target.whose is Whose.EACH]
        for assign in action.assigns:
            if assign.target.whose is not Whose.EACH:
                yield self._assigned(assign)
        if each and self._secondaries:
            body = [self._assigned(assign) for assign in each]
            if action.actor is Actor.SECONDARY:
                body = list(_indented(f"if {_OTHER} != {_ME} then", body))
            yield from _indented(f"for {_OTHER}: secondary do", body)

    def _invariant(self, item: Property) -> Iterator[str]:
        yield from (f"-- {line}" for line in wrapped(item.title))
        yield f'invariant "{item.name}"'
        violated = item.violated
        parts = violated.operands if isinstance(violated, Or) else (violated,)
        texts = [self._expr(part, None) for part in parts]
        yield "  !("
        yield from (f"    {'| ' if number else ''}{text}" for number, text in enumerate(texts))
        yield "  );"

    def _liveness(self) -> Iterator[str]:
        yield from (f"-- {line}" for line in wrapped(self._model.goal_title))
        # To rumur that is: from every state reached, one that satisfies it can be reached, which is
        # what the goal of the form means.
        yield f'liveness "{self._model.goal_name}"'
        yield f"  {self._expr(self._model.goal, None)};"

    def _assigned(self, assign: Assign) -> str:
        value = self._naming.domain(assign.target).names[assign.value]
        return f"{place(assign.target, _ME, _OTHER)} := {value};"

    def _expr(self, expr: Expr, actor: Actor | None) -> str:
        """An expression, in parentheses where it needs them inside another."""
        match expr:
            case Constant(value):
                return "true" if value else "false"
            case OneOf(ref, values):
                return self._compared(ref, values, "=", " | ", "false")
            case Not(OneOf(ref, values)):
                return self._compared(ref, values, "!=", " & ", "true")
            case And(operands):
                return joined(" & ", [self._expr(part, actor) for part in operands], "true")
            case Or(operands):
                return joined(" | ", [self._expr(part, actor) for part in operands], "false")
            case All(body):
                return self._quantified("forall", body, actor)
            case Any(body):
                return self._quantified("exists", body, actor)
        raise TypeError(f"not an expression of the form: {expr!r}")

    def _compared(
        self, ref: Ref, values: frozenset[str], operator: str, joint: str, neutral: str
    ) -> str:
        target = place(ref, _ME, _OTHER)
        names = self._naming.values(ref, values)
        return joined(joint, [f"{target} {operator} {name}" for name in names], neutral)

    def _quantified(self, quantifier: str, body: Expr, actor: Actor | None) -> str:
        if not self._secondaries:
            return "true" if quantifier == "forall" else "false"
        text = self._expr(body, actor)
        if actor is Actor.SECONDARY:
            excluded = f"{_OTHER} = {_ME} |" if quantifier == "forall" else f"{_OTHER} != {_ME} &"
            text = f"{excluded} {text}"
        return f"({quantifier} {_OTHER}: secondary do {text} end)"


def _indented(first: str, body: Sequence[str]) -> Iterator[str]:
    yield first
    yield from (f"  {line}" for line in body)
    yield "end;"

# SPDX-License-Identifier: GPL-2.0-or-later
"""A model in Promela, as spin reads it.

One process per CPU; the properties are assertions in options of the jumping CPU's loop.
"""

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
    Ref,
    Whose,
)

__all__ = ["REACHES_GOAL", "promela"]

#: Macro with which spin looks for a state that satisfies the goal, as an error.
REACHES_GOAL = "REACHES_GOAL"

#: Words that no value may be called.
#: spin's keywords, those of C, into which it translates, and names that are used here.
_WORDS = """\
active assert atomic bit bool break byte chan d_step do else empty enabled end eval false fi
float for full get_priority goto hidden if in init inline int len local ltl mtype nempty never
nfull notrace now np_ od of pc_value pid print printf priority proctype provided return run
select set_priority short show skip timeout trace true typedef unless unsigned xr xs
auto case char const continue default double enum extern long register signed sizeof static
struct switch union void volatile while me other secondary jumping_cpu"""

_USE = """\
Check it:
  spin -a FILE
  cc -O2 -DSAFETY -o pan pan.c        (-DREACHES_GOAL: see the end of this comment)
  ./pan -m1000000                     (-c0 -e: go on after a violation)
A state from which nothing goes on is no error by itself, so every loop has an end label: a
CPU that faulted, or hangs, is no deadlock to spin."""

_GOAL = """\
{name} {title} It says that from every state that can be reached, the handover can be reached.
LTL cannot say this. With -DREACHES_GOAL the last option of jumping_cpu makes a reached
handover an error, which shows that it can be reached from the initial state."""


def promela(model: Model, secondaries: int) -> str:
    """The text of a Promela model.

    Args:
        model: The model.
        secondaries: Number of secondaries, at least 0.
    """
    return "\n".join(_Printer(model, secondaries).lines()) + "\n"


class _Printer:
    """Walks one model."""

    def __init__(self, model: Model, secondaries: int) -> None:
        self._model = model
        self._secondaries = secondaries
        self._naming: Naming = naming_of(model, frozenset(_WORDS.split()))

    def lines(self) -> Iterator[str]:
        yield from self._heading()
        yield from self._declarations()
        yield from self._properties()
        if self._secondaries:
            yield from ("", "active [SECONDARIES] proctype secondary()", "{")
            # Processes are numbered in the order of their proctypes: these come first.
            yield from self._loop(Actor.SECONDARY, ())
            yield "}"
        yield from ("", "active proctype jumping_cpu()", "{")
        yield from self._loop(Actor.JUMPING, self._assertions())
        yield "}"

    def _heading(self) -> Iterator[str]:
        model, count = self._model, self._secondaries
        noun = "secondary" if count == 1 else "secondaries"
        goal = _GOAL.format(name=model.goal_name, title=model.goal_title)
        yield f"/* {model.title}: the jumping CPU and {count} {noun}."
        yield from (f" * {line}".rstrip() for line in ("", *_USE.splitlines(), ""))
        yield from (f" * {line}".rstrip() for line in wrapped(goal))
        yield " */"

    def _declarations(self) -> Iterator[str]:
        if self._secondaries:
            yield from ("", f"#define SECONDARIES {self._secondaries}")
            yield "#define me _pid /* secondaries are processes 0 .. SECONDARIES - 1 */"
        yield ""
        for domain in self._naming.domains:
            yield f"mtype:{domain.name}_t = {{"
            yield from (f"  {line}" for line in wrap(", ".join(domain.names.values()), 90))
            yield "}"
        yield ""
        for variable in self._model.globals:
            domain = self._naming.of_globals[variable.name]
            yield f"mtype:{domain.name}_t {variable.name} = {domain.names[variable.initial]};"
        if self._secondaries:
            yield from self._arrays()

    def _arrays(self) -> Iterator[str]:
        for variable in self._model.locals:
            domain = self._naming.of_locals[variable.name]
            initial = domain.names[variable.initial]
            yield f"mtype:{domain.name}_t {variable.name}[SECONDARIES] = {initial};"
        # Hidden: between steps it means nothing, and must not tell states apart.
        yield "hidden byte other; /* counts the other secondaries within one step */"

    def _properties(self) -> Iterator[str]:
        for item in self._model.properties:
            yield from ("", *_comment(item.title))
            yield from self._macro(f"BREAKS_{item.name}", item.violated)
        yield from ("", *_comment(self._model.goal_title))
        yield from self._macro(f"GOAL_{self._model.goal_name}", self._model.goal)

    def _macro(self, name: str, expr: Expr) -> Iterator[str]:
        parts = expr.operands if isinstance(expr, Or) else (expr,)
        texts = [self._expr(part, None) for part in parts]
        lines = [f"  {'|| ' if number else ''}{text}" for number, text in enumerate(texts)]
        yield f"#define {name} ( \\"
        yield from (f"{line} \\" for line in lines)
        yield ")"

    def _loop(self, actor: Actor, more: Sequence[str]) -> Iterator[str]:
        # A single loop of atomic steps: a process is always at its head, so spin's states are the
        # form's.
        yield from ("end:", "  do")
        for action in self._model.actions:
            if action.actor is actor:
                yield from (f"  {line}" for line in self._option(action))
        yield from (f"  {line}" for line in more)
        yield "  od"

    def _option(self, action: Action) -> Iterator[str]:
        yield from _comment(*narrated(action))
        yield f":: d_step {{ /* {action.name} */"
        parts = action.guard.operands if isinstance(action.guard, And) else (action.guard,)
        *guards, last = [self._expr(part, action.actor) for part in parts]
        # spin ends a statement at the end of a line, unless an operator is still open there.
        yield from (f"     {guard} &&" for guard in guards)
        yield f"     {last} ->"
        yield from (f"       {line}" for line in self._body(action))
        yield "   }"

    def _body(self, action: Action) -> Iterator[str]:
        each = [assign for assign in action.assigns if assign.target.whose is Whose.EACH]
        single = [assign for assign in action.assigns if assign.target.whose is not Whose.EACH]
        if each and self._secondaries:
            yield "for (other : 0 .. SECONDARIES - 1) {"
            yield from (f"  {line}" for line in self._assigned_to_others(each, action.actor))
            yield "}"
        # One after the other they mean what the form's simultaneous assignments mean, as what is
        # assigned are constants. A loop must not be last: its break would leave the d_step.
        statements = [self._assigned(assign) for assign in single] or ["skip"]
        yield from (f"{statement};" for statement in statements[:-1])
        yield statements[-1]

    def _assigned_to_others(self, each: Sequence[Assign], actor: Actor) -> Iterator[str]:
        statements = "; ".join(self._assigned(assign) for assign in each)
        if actor is Actor.JUMPING:
            yield statements
        else:
            # Without an enabled option `if` blocks, which within a d_step is an error.
            yield from ("if", f":: other != me -> {statements}", ":: else", "fi")

    def _assertions(self) -> list[str]:
        # Only a state that breaks the property enables its option, so that all states are looked
        # at, the initial one too, and none is added.
        names = [f"BREAKS_{item.name}" for item in self._model.properties]
        broken = [f":: d_step {{ {name} -> assert(!({name})) }}" for name in names]
        goal = f"GOAL_{self._model.goal_name}"
        return [
            *broken,
            f"#ifdef {REACHES_GOAL}",
            f":: d_step {{ {goal} -> assert(!({goal})) }}",
            "#endif",
        ]

    def _assigned(self, assign: Assign) -> str:
        value = self._naming.domain(assign.target).names[assign.value]
        return f"{place(assign.target, 'me', 'other')} = {value}"

    def _expr(self, expr: Expr, actor: Actor | None, other: int = 0) -> str:
        """An expression; `other` is the secondary that an enclosing quantifier is at."""
        match expr:
            case Constant(value):
                return "true" if value else "false"
            case OneOf(ref, values):
                return self._compared(ref, values, "==", " || ", other)
            case Not(OneOf(ref, values)):
                return self._compared(ref, values, "!=", " && ", other)
            case And(operands):
                parts = [self._expr(part, actor, other) for part in operands]
                return joined(" && ", parts, "true")
            case Or(operands):
                parts = [self._expr(part, actor, other) for part in operands]
                return joined(" || ", parts, "false")
            case All(body):
                return joined(" && ", self._others(body, actor, "me == {} || "), "true")
            case Any(body):
                return joined(" || ", self._others(body, actor, "me != {} && "), "false")
        raise TypeError(f"not an expression of the form: {expr!r}")

    def _compared(
        self, ref: Ref, values: frozenset[str], operator: str, joint: str, other: int
    ) -> str:
        target = place(ref, "me", str(other))
        names = self._naming.values(ref, values)
        parts = [f"{target} {operator} {name}" for name in names]
        return joined(joint, parts, "false" if operator == "==" else "true")

    def _others(self, body: Expr, actor: Actor | None, unless: str) -> list[str]:
        """The body for each secondary; Promela has no quantifiers."""
        own = unless if actor is Actor.SECONDARY else ""
        return [
            f"({own.format(index)}{self._expr(body, actor, index)})"
            for index in range(self._secondaries)
        ]


def _comment(*lines: str) -> Iterator[str]:
    for number, line in enumerate(lines):
        start = " * " if number else "/* "
        yield f"{start}{line}{' */' if number == len(lines) - 1 else ''}"

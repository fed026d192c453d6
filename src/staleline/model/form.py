# SPDX-License-Identifier: GPL-2.0-or-later
"""The form models are written in: finite variables and guarded simultaneous assignments.

A model has global variables and, for each secondary, a copy of the local ones. An action
belongs to the jumping CPU or to one secondary; when its guard holds, all its assignments
happen at once. Assigned values are constants, so a reader needs no arithmetic, and every
reader (interpreter, search, printers) walks the same few node types.

Quantifiers and assignments to `EACH` range over the secondaries other than the acting one;
for the jumping CPU and for properties that is every secondary.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "FALSE",
    "TRUE",
    "Action",
    "Actor",
    "All",
    "And",
    "Any",
    "Assign",
    "Constant",
    "Expr",
    "Model",
    "Not",
    "OneOf",
    "Or",
    "Property",
    "Ref",
    "Variable",
    "Whose",
    "all_of",
    "any_of",
    "in_order",
]


class Whose(StrEnum):
    """Which copy of a variable is meant."""

    GLOBAL = "global"
    OWN = "own"
    EACH = "each"


class Actor(StrEnum):
    """Who takes an action."""

    JUMPING = "jumping"
    SECONDARY = "secondary"


class Expr:
    """A truth value over a state; built with ``&``, ``|`` and ``~``."""

    __slots__ = ()

    def __and__(self, other: Expr) -> Expr:
        return all_of(self, other)

    def __or__(self, other: Expr) -> Expr:
        return any_of(self, other)

    def __invert__(self) -> Expr:
        return _negated(self)


@dataclass(frozen=True, slots=True)
class Constant(Expr):
    """True or false in every state."""

    value: bool


TRUE = Constant(True)
FALSE = Constant(False)


@dataclass(frozen=True, slots=True)
class Ref:
    """One copy of a variable."""

    whose: Whose
    name: str

    def one_of(self, *values: str) -> OneOf:
        """The variable has one of these values."""
        return OneOf(self, frozenset(map(str, values)))

    def none_of(self, *values: str) -> Expr:
        """The variable has none of these values."""
        return Not(self.one_of(*values))

    def becomes(self, value: str) -> Assign:
        """The assignment of a value to this copy (for `EACH`: to every copy it ranges over)."""
        return Assign(self, str(value))


@dataclass(frozen=True, slots=True)
class OneOf(Expr):
    """A variable has one of a set of values."""

    ref: Ref
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Not(Expr):
    """A variable has none of a set of values; `~` moves every negation down to here."""

    operand: OneOf


@dataclass(frozen=True, slots=True)
class And(Expr):
    """Conjunction."""

    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Or(Expr):
    """Disjunction."""

    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class All(Expr):
    """Holds for each of the other secondaries; inside, `EACH` is that secondary."""

    body: Expr


@dataclass(frozen=True, slots=True)
class Any(Expr):
    """Holds for at least one of the other secondaries; inside, `EACH` is that secondary."""

    body: Expr


@dataclass(frozen=True, slots=True)
class Assign:
    """One target and the constant it gets."""

    target: Ref
    value: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable and its finite domain; the first value is the initial one."""

    name: str
    domain: tuple[str, ...]

    @property
    def initial(self) -> str:
        """The value in the initial state."""
        return self.domain[0]


@dataclass(frozen=True, slots=True)
class Action:
    """A guarded simultaneous assignment.

    Attributes:
        name: Unique in its model, an identifier.
        actor: The jumping CPU or a secondary; `OWN` refers to the acting secondary.
        guard: When the action may be taken.
        assigns: What it changes, all from the state before it.
        function: Who does it: a kernel function, "old kernel", "next kernel" or "cache".
        source: Where hardware or kernel source says so.
        sentence: What happens, in English; ``{cpu}`` is the acting CPU.
    """

    name: str
    actor: Actor
    guard: Expr
    assigns: tuple[Assign, ...]
    function: str
    source: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Property:
    """Something that must never hold.

    Attributes:
        name: Short name, e.g. ``"P1"``.
        title: The property as a sentence.
        violated: The states that break it.
    """

    name: str
    title: str
    violated: Expr


@dataclass(frozen=True, slots=True)
class Model:
    """Variables, actions and properties for any number of secondaries.

    Attributes:
        title: What is modelled.
        globals: Variables that exist once.
        locals: Variables that every secondary has.
        actions: All actions.
        properties: What must never hold in a reachable state.
        goal: States of which one must stay reachable from every reachable state; speaks of
            globals only.
        goal_name: Short name of that liveness property.
        goal_title: It as a sentence.
    """

    title: str
    globals: tuple[Variable, ...]
    locals: tuple[Variable, ...]
    actions: tuple[Action, ...]
    properties: tuple[Property, ...]
    goal: Expr
    goal_name: str
    goal_title: str


def all_of(*operands: Expr) -> Expr:
    """Conjunction of any number of expressions; true for none."""
    return _fold(And, FALSE, TRUE, operands)


def any_of(*operands: Expr) -> Expr:
    """Disjunction of any number of expressions; false for none."""
    return _fold(Or, TRUE, FALSE, operands)


def in_order(*groups: tuple[Assign, ...]) -> tuple[Assign, ...]:
    """Assignments that happen one group after the other, as one step: the last one counts."""
    # A dict keeps the place of a key's first value, so the order does not depend on the last.
    return tuple({assign.target: assign for group in groups for assign in group}.values())


def _negated(expr: Expr) -> Expr:
    match expr:
        case Constant(value):
            return Constant(not value)
        case OneOf():
            return Not(expr)
        case Not(operand):
            return operand
        case And(operands):
            return any_of(*map(_negated, operands))
        case Or(operands):
            return all_of(*map(_negated, operands))
        case All(body):
            return Any(_negated(body))
        case Any(body):
            return All(_negated(body))
    raise TypeError(f"not an expression of the form: {expr!r}")


def _fold(
    node: type[And] | type[Or], absorbing: Constant, neutral: Constant, operands: tuple[Expr, ...]
) -> Expr:
    """Join expressions flat and without constants, so that readers see small trees."""
    parts: list[Expr] = []
    for operand in operands:
        if isinstance(operand, Constant):
            if operand == absorbing:
                return absorbing
        elif isinstance(operand, node):
            parts += operand.operands
        else:
            parts.append(operand)
    if not parts:
        return neutral
    return parts[0] if len(parts) == 1 else node(tuple(parts))

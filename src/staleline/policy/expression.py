# SPDX-License-Identifier: GPL-2.0-or-later
"""The expression tree of policies, and its concrete syntax.

The syntax is Python's for ``and``, ``or``, ``not``, comparisons and parentheses, with
``true``, ``false``, atoms and ``cc(ATTRIBUTE)``.

>>> str(parse("max_extended_leaf >= 0x8000001f and (sme_supported or tdx_host_enabled)"))
'max_extended_leaf >= 0x8000001f and (sme_supported or tdx_host_enabled)'
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from staleline.errors import PolicyError
from staleline.policy.atoms import VENDORS, AtomType, atoms

__all__ = [
    "AllOf",
    "AnyOf",
    "AtomIs",
    "Attribute",
    "Comparison",
    "Expression",
    "Negation",
    "Operator",
    "TruthValue",
    "atoms_read",
    "attributes_read",
    "expand",
    "nodes_of",
    "parse",
]

#: Longer predicates than any kernel's; keeps hostile policy files from nesting without end.
_MAX_LENGTH = 2000
_MAX_DEPTH = 40


class Operator(StrEnum):
    """Comparison operators; integers take all, strings only equality."""

    EQ = "=="
    NE = "!="
    GE = ">="
    GT = ">"
    LE = "<="
    LT = "<"


@dataclass(frozen=True, slots=True)
class TruthValue:
    """``true`` or ``false``."""

    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True, slots=True)
class AtomIs:
    """A boolean atom, taken as it is."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Comparison:
    """An integer or string atom compared with a literal."""

    name: str
    operator: Operator
    literal: int | str

    def __str__(self) -> str:
        text = f'"{self.literal}"' if isinstance(self.literal, str) else f"{self.literal:#x}"
        return f"{self.name} {self.operator} {text}"


@dataclass(frozen=True, slots=True)
class Attribute:
    """``cc(NAME)``: an attribute that the same policy defines."""

    name: str

    def __str__(self) -> str:
        return f"cc({self.name})"


@dataclass(frozen=True, slots=True)
class Negation:
    """``not`` of an expression."""

    operand: Expression

    def __str__(self) -> str:
        # Comparisons bind more tightly than `not`, and need no parentheses.
        return f"not {_grouped(self.operand, AllOf, AnyOf)}"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Conjunction of two or more expressions."""

    operands: tuple[Expression, ...]

    def __str__(self) -> str:
        return " and ".join(_grouped(operand, AnyOf) for operand in self.operands)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Disjunction of two or more expressions."""

    operands: tuple[Expression, ...]

    def __str__(self) -> str:
        return " or ".join(_grouped(operand, AllOf) for operand in self.operands)


Expression = TruthValue | AtomIs | Comparison | Attribute | Negation | AllOf | AnyOf


def _grouped(expression: Expression, *looser: type) -> str:
    text = str(expression)
    return f"({text})" if isinstance(expression, looser) else text


def parse(text: str, *, where: str | None = None) -> Expression:
    """Read one expression.

    Args:
        text: The expression.
        where: File and field, for error messages.

    Raises:
        PolicyError: Not an expression of this language, or an unknown atom; the message
            names the column.
    """
    if len(text) > _MAX_LENGTH:
        raise PolicyError(
            f"the expression has {len(text)} characters", where=where, do=f"keep to {_MAX_LENGTH}"
        )
    try:
        with warnings.catch_warnings():
            # Python warns of what it will refuse one day, as `1or 2`; here it is refused now.
            warnings.simplefilter("error", SyntaxWarning)
            # Parsed and never evaluated: of Python's nodes those of this language are accepted.
            tree = ast.parse(text.strip(), mode="eval")
    # Beside syntax: NUL bytes, and what its parser says of nesting that is too deep for it.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = getattr(error, "offset", None)
        at = "" if column is None else f" at column {column}"
        raise PolicyError(
            f"not an expression{at}: {text.strip()!r}",
            where=where,
            do="use and, or, not, comparisons, parentheses and cc(NAME)",
        ) from None
    return _Reader(where).read(tree.body, depth=0)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns Python's syntax tree into ours, refusing everything that is not in the language."""

    where: str | None

    def read(self, node: ast.expr, depth: int) -> Expression:
        if depth > _MAX_DEPTH:
            raise self._error(node, f"more than {_MAX_DEPTH} levels of nesting")
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return AllOf(tuple(self.read(value, depth + 1) for value in values))
            case ast.BoolOp(op=ast.Or(), values=values):
                return AnyOf(tuple(self.read(value, depth + 1) for value in values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Negation(self.read(operand, depth + 1))
            case ast.Name(id="true" | "false" as word):
                return TruthValue(word == "true")
            case ast.Name():
                return self._boolean_atom(node)
            case ast.Compare(left=ast.Name() as left, ops=[op], comparators=[ast.Constant() as c]):
                return self._comparison(left, op, c)
            case ast.Call(func=ast.Name(id="cc"), args=[ast.Name(id=name)], keywords=[]):
                return Attribute(name)
            case _:
                raise self._error(node, f"{ast.unparse(node)!r} is not part of the language")

    def _boolean_atom(self, node: ast.Name) -> AtomIs:
        if self._type(node) is not AtomType.BOOL:
            raise self._error(node, f"{node.id} is not a yes-or-no atom; compare it with a value")
        return AtomIs(node.id)

    def _comparison(self, left: ast.Name, op: ast.cmpop, right: ast.Constant) -> Comparison:
        kind = self._type(left)
        operator = _OPERATORS.get(type(op))
        literal = right.value
        # By the exact type: Python's True is an int, and `max_extended_leaf == true` no question.
        fits = (kind is AtomType.INT and type(literal) is int) or (
            kind is AtomType.STR
            and isinstance(literal, str)
            and operator in {Operator.EQ, Operator.NE}
        )
        if operator is None or not fits or not isinstance(literal, int | str):
            raise self._error(
                left, f"{left.id} ({kind}) cannot be compared like this with {literal!r}"
            )
        # A name that no CPU has is a slip, by which a rule would hold everywhere or nowhere.
        if isinstance(literal, str) and literal not in VENDORS:
            near = difflib.get_close_matches(literal, VENDORS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use {', '.join(VENDORS)}"
            raise self._error(
                left, f"no vendor of CPUs is told apart by the name {literal!a}", hint
            )
        return Comparison(left.id, operator, literal)

    def _type(self, node: ast.Name) -> AtomType:
        atom = atoms().get(node.id)
        if atom is None:
            near = difflib.get_close_matches(node.id, atoms(), n=1)
            hint = f"did you mean {near[0]}?" if near else "see `staleline policies --atoms`"
            raise self._error(node, f"unknown atom {node.id!r}", hint)
        return atom.type

    def _error(self, node: ast.expr, what: str, do: str | None = None) -> PolicyError:
        return PolicyError(f"{what} (column {node.col_offset + 1})", where=self.where, do=do)


_OPERATORS: Mapping[type[ast.cmpop], Operator] = {
    ast.Eq: Operator.EQ,
    ast.NotEq: Operator.NE,
    ast.GtE: Operator.GE,
    ast.Gt: Operator.GT,
    ast.LtE: Operator.LE,
    ast.Lt: Operator.LT,
}


def expand(expression: Expression, attributes: Mapping[str, Expression]) -> Expression:
    """Replace every ``cc(NAME)`` by its definition.

    Args:
        expression: May contain attributes.
        attributes: Definitions, expanded.
    """
    match expression:
        # The definition is expanded already: an attribute may name only those above it.
        case Attribute(name):
            return attributes[name]
        case Negation(operand):
            return Negation(expand(operand, attributes))
        case AllOf(operands):
            return AllOf(tuple(expand(operand, attributes) for operand in operands))
        case AnyOf(operands):
            return AnyOf(tuple(expand(operand, attributes) for operand in operands))
        case _:
            return expression


def nodes_of(expression: Expression) -> Iterator[Expression]:
    """Every node, parents first."""
    yield expression
    match expression:
        case Negation(operand):
            yield from nodes_of(operand)
        case AllOf(operands) | AnyOf(operands):
            for operand in operands:
                yield from nodes_of(operand)
        case _:
            return


def atoms_read(expression: Expression) -> tuple[str, ...]:
    """Names of the atoms that occur, in order of first occurrence."""
    names = [node.name for node in nodes_of(expression) if isinstance(node, AtomIs | Comparison)]
    return tuple(dict.fromkeys(names))


def attributes_read(expression: Expression) -> tuple[str, ...]:
    """Names of the attributes that occur, in order of first occurrence."""
    return tuple(
        dict.fromkeys(node.name for node in nodes_of(expression) if isinstance(node, Attribute))
    )

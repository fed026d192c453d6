# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies in z3: are two rules the same, and if not, where do they differ?

Rules are compared on machines that can exist: `_MACHINES` states what every machine obeys
(a leaf that is not there has no bits, SME needs firmware, TDX is Intel's), so that a
difference which no machine shows is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, assert_never

import z3

from staleline.policy.atoms import AtomType, atoms
from staleline.policy.expression import (
    AllOf,
    AnyOf,
    AtomIs,
    Attribute,
    Comparison,
    Constant,
    Expression,
    Negation,
    Operator,
    atoms_read,
    parse,
)

__all__ = ["condition_where", "equivalent", "holds_always", "to_z3"]

#: What holds of every machine, each with its source.
_MACHINES = (
    # A leaf beyond the maximum is not there (Intel SDM and AMD APM, CPUID).
    "max_extended_leaf >= 0x8000001f or (not sme_supported and not sev_supported)",
    # Where the leaf is there, reading it without checking makes no difference.
    "max_extended_leaf < 0x8000001f or not sme_supported or sme_bit_unchecked",
    "max_extended_leaf < 0x8000001f or sme_supported or not sme_bit_unchecked",
    # SME and SEV are AMD's and Hygon's, TDX is Intel's.
    '(vendor == "AuthenticAMD" or vendor == "HygonGenuine")'
    " or (not sme_supported and not sev_supported)",
    'vendor == "GenuineIntel" or (not tdx_host_enabled and not tdx_guest)',
    # sme_enable() (linux 6.12.117 arch/x86/mm/mem_encrypt_identity.c).
    "not sme_active or (sme_enabled and not hypervisor and (sme_supported or sev_supported))",
    "not sev_guest or (hypervisor and sev_supported and not sme_active)",
    "not tdx_guest or hypervisor",
    # SNP needs SYSCFG[23] (linux 6.12.117 arch/x86/virt/svm/sev.c), SEAMCALLs a TDX host.
    "not snp_host or (sme_enabled and sev_supported and not hypervisor)",
    "not seamcalled or (tdx_host_enabled and not hypervisor)",
    # A guest is given no host key.
    "not hypervisor or (not sme_enabled and not tdx_host_enabled)",
    "sme_supported or sev_supported or not sme_enabled",
)

_VENDORS = ("AuthenticAMD", "HygonGenuine", "GenuineIntel", "CentaurHauls")


@cache
def _vendor_sort() -> tuple[z3.DatatypeSortRef, Mapping[str, z3.DatatypeRef]]:
    """Vendors as an enumeration: the ones that policies name, and one that stands for the rest."""
    sort, constants = z3.EnumSort("Vendor", _VENDORS)
    return sort, dict(zip(_VENDORS, constants, strict=True))


@cache
def _variable(name: str) -> z3.ExprRef:
    match atoms()[name].type:
        case AtomType.BOOL:
            return z3.Bool(name)
        case AtomType.INT:
            return z3.Int(name)
        case AtomType.STR:
            return z3.Const(name, _vendor_sort()[0])


def to_z3(expression: Expression) -> z3.BoolRef:
    """An attribute-free expression as a z3 formula over its atoms."""
    match expression:
        case Constant(value):
            return z3.BoolVal(value)
        case AtomIs(name):
            return _as_bool(_variable(name))
        case Comparison():
            return _comparison(expression)
        case Negation(operand):
            return _as_bool(z3.Not(to_z3(operand)))
        case AllOf(operands):
            return _as_bool(z3.And(*(to_z3(operand) for operand in operands)))
        case AnyOf(operands):
            return _as_bool(z3.Or(*(to_z3(operand) for operand in operands)))
        case Attribute(name):
            raise ValueError(f"cc({name}) was not expanded")
        case _:
            assert_never(expression)


def _comparison(comparison: Comparison) -> z3.BoolRef:
    variable: Any = _variable(comparison.name)
    literal: Any = comparison.literal
    if isinstance(literal, str):
        literal = _vendor_sort()[1].get(literal)
        if literal is None:  # a vendor that no rule of the catalogue names
            return z3.BoolVal(comparison.operator is Operator.NE)
    match comparison.operator:
        case Operator.EQ:
            return _as_bool(variable == literal)
        case Operator.NE:
            return _as_bool(variable != literal)
        case Operator.GE:
            return _as_bool(variable >= literal)
        case Operator.GT:
            return _as_bool(variable > literal)
        case Operator.LE:
            return _as_bool(variable <= literal)
        case Operator.LT:
            return _as_bool(variable < literal)


def _as_bool(formula: Any) -> z3.BoolRef:
    assert isinstance(formula, z3.BoolRef)
    return formula


@cache
def _machines() -> z3.BoolRef:
    return _as_bool(z3.And(*(to_z3(parse(axiom)) for axiom in _MACHINES)))


def _possible(*formulas: z3.BoolRef) -> z3.ModelRef | None:
    """A machine on which all formulas hold, or None."""
    solver = z3.Solver()
    solver.add(_machines(), *formulas)
    return solver.model() if solver.check() == z3.sat else None


def holds_always(expression: Expression) -> bool:
    """Does it hold on every machine that can exist?"""
    return _possible(_as_bool(z3.Not(to_z3(expression)))) is None


def equivalent(left: Expression, right: Expression) -> bool:
    """Do both rules decide alike on every machine that can exist?"""
    return _possible(_as_bool(to_z3(left) != to_z3(right))) is None


@dataclass(frozen=True, slots=True)
class _Cubes:
    """Finds a short disjunction of conjunctions equal to a formula on all machines."""

    formula: z3.BoolRef
    literals: tuple[Expression, ...]

    def __iter__(self) -> Iterator[tuple[Expression, ...]]:
        covered: list[z3.BoolRef] = []
        while (machine := _possible(self.formula, *covered)) is not None:
            cube = self._shortened(self._cube(machine))
            covered.append(_as_bool(z3.Not(_conjunction(cube))))
            yield cube

    def _cube(self, machine: z3.ModelRef) -> list[Expression]:
        """The literals that hold on this machine, the most telling last to be dropped."""
        holding = []
        for literal in self.literals:
            value = machine.eval(to_z3(literal), model_completion=True)
            holding.append(literal if z3.is_true(value) else _opposite(literal))
        return holding

    def _shortened(self, cube: list[Expression]) -> tuple[Expression, ...]:
        """Drop literals, negated ones first, as long as the rest implies the formula."""
        outside = _as_bool(z3.Not(self.formula))
        for literal in sorted(cube, key=_is_positive):
            rest = [one for one in cube if one is not literal]
            if _possible(_conjunction(rest), outside) is None:
                cube = rest
        return tuple(cube)


_OPPOSITES = {
    Operator.EQ: Operator.NE,
    Operator.NE: Operator.EQ,
    Operator.GE: Operator.LT,
    Operator.LT: Operator.GE,
    Operator.GT: Operator.LE,
    Operator.LE: Operator.GT,
}


def _opposite(literal: Expression) -> Expression:
    if isinstance(literal, Comparison):
        return Comparison(literal.name, _OPPOSITES[literal.operator], literal.literal)
    return Negation(literal)


def _is_positive(literal: Expression) -> bool:
    negative = {Operator.NE, Operator.LT, Operator.LE}
    if isinstance(literal, Comparison):
        return literal.operator not in negative
    return not isinstance(literal, Negation)


def _conjunction(cube: list[Expression] | tuple[Expression, ...]) -> z3.BoolRef:
    return _as_bool(z3.And(z3.BoolVal(True), *(to_z3(literal) for literal in cube)))


def condition_where(left: Expression, right: Expression) -> Expression | None:
    """Where `left` holds and `right` does not, as a readable condition; None if nowhere."""
    formula = _as_bool(z3.And(to_z3(left), z3.Not(to_z3(right))))
    cubes = [_joined(cube) for cube in _Cubes(formula, _literals(left, right))]
    if not cubes:
        return None
    return cubes[0] if len(cubes) == 1 else AnyOf(tuple(cubes))


def _joined(cube: tuple[Expression, ...]) -> Expression:
    if not cube:
        return Constant(True)
    return cube[0] if len(cube) == 1 else AllOf(cube)


def _literals(*expressions: Expression) -> tuple[Expression, ...]:
    """Every atom or comparison that occurs, once."""
    found: dict[Expression, None] = {}
    for expression in expressions:
        _collect(expression, found)
    return tuple(found)


def _collect(expression: Expression, found: dict[Expression, None]) -> None:
    match expression:
        case AtomIs() | Comparison():
            found[expression] = None
        case Negation(operand):
            _collect(operand, found)
        case AllOf(operands) | AnyOf(operands):
            for operand in operands:
                _collect(operand, found)
        case _:
            assert not atoms_read(expression)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Literals: an atom or a comparison, as it is or denied."""

from __future__ import annotations

import pytest
from hypothesis import given

from staleline.policy.expression import (
    AtomIs,
    Attribute,
    Comparison,
    Expression,
    Negation,
    Operator,
    TruthValue,
    atoms_read,
    parse,
)
from staleline.policy.literals import (
    conjunction_of,
    disjunction_of,
    is_positive,
    literals,
    opposite,
    rank,
    substitute,
)
from staleline.policy.smt import equivalent
from tests.policy.test_expression import expressions


@pytest.mark.parametrize(
    ("literal", "other"),
    [
        ("sme_active", "not sme_active"),
        ("max_extended_leaf >= 0x8000001f", "max_extended_leaf < 0x8000001f"),
        ("max_extended_leaf > 0x8000001f", "max_extended_leaf <= 0x8000001f"),
        ('vendor == "HygonGenuine"', 'vendor != "HygonGenuine"'),
    ],
)
def test_the_opposite_holds_where_it_does_not(literal: str, other: str) -> None:
    assert opposite(parse(literal)) == parse(other)
    assert opposite(parse(other)) == parse(literal)
    assert is_positive(parse(literal))
    assert not is_positive(parse(other))


@given(expressions())
def test_literals_are_the_atoms_that_are_read_each_once(expression: Expression) -> None:
    found = literals(expression)
    assert len(found) == len(set(found))
    assert all(isinstance(literal, AtomIs | Comparison) for literal in found)
    assert {name for literal in found for name in atoms_read(literal)} == set(
        atoms_read(expression)
    )


def test_literals_come_in_order_of_first_occurrence() -> None:
    left, right = parse("sev_guest or hypervisor"), parse("not hypervisor and mem_encrypt")
    names = [str(literal) for literal in literals(left, right)]
    assert names == ["sev_guest", "hypervisor", "mem_encrypt"]


def test_an_attribute_is_expanded_before() -> None:
    with pytest.raises(AssertionError, match="expanded"):
        literals(Attribute("HOST_MEM_ENCRYPT"))


def test_nothing_holds_together_always_and_nothing_either_never() -> None:
    assert conjunction_of(()) == TruthValue(True)
    assert disjunction_of(()) == TruthValue(False)
    only = AtomIs("hypervisor")
    assert conjunction_of([only]) is only
    assert disjunction_of([only]) is only


def test_vendors_are_named_first_and_the_rest_in_the_vocabularys_order() -> None:
    mixed: list[Expression] = [
        AtomIs("mem_encrypt"),
        AtomIs("hypervisor"),
        Negation(AtomIs("sme_supported")),
        Comparison("vendor", Operator.EQ, "AuthenticAMD"),
    ]
    assert [str(literal) for literal in sorted(mixed, key=rank)] == [
        'vendor == "AuthenticAMD"',
        "not sme_supported",
        "hypervisor",
        "mem_encrypt",
    ]


@given(expressions())
def test_what_is_put_for_itself_changes_nothing(expression: Expression) -> None:
    assert substitute(expression, {each: each for each in literals(expression)}) == expression


def test_sme_active_can_be_put_for_by_what_it_stands_for() -> None:
    rule = parse("sme_active or seamcalled")
    meaning = parse("not hypervisor and sme_enabled and mem_encrypt")
    put = substitute(rule, {AtomIs("sme_active"): meaning})
    assert equivalent(put, parse("not hypervisor and sme_enabled and mem_encrypt or seamcalled"))
    assert "sme_active" not in atoms_read(put)

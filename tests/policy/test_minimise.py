# SPDX-License-Identifier: GPL-2.0-or-later
"""The minimiser says what was asked, as shortly as it can be said, and the same every time."""

from __future__ import annotations

from functools import reduce
from itertools import chain, combinations, product
from operator import or_

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.policy.evaluate import evaluate
from staleline.policy.expression import AllOf, AtomIs, Comparison, Expression, TruthValue, parse
from staleline.policy.literals import conjunction_of, is_positive, literals, opposite
from staleline.policy.minimise import minimise

NAMES = ("sme_supported", "hypervisor", "sme_enabled")
MACHINES = [dict(zip(NAMES, values, strict=True)) for values in product((False, True), repeat=3)]
EVERY_MACHINE = (1 << len(MACHINES)) - 1
LITERALS: list[Expression] = [AtomIs(name) for name in NAMES]


def holding(expression: Expression) -> int:
    """One bit per machine on which it holds."""
    return sum(bool(evaluate(expression, one)) << i for i, one in enumerate(MACHINES))


MASKS: dict[Expression, int] = {literal: holding(literal) for literal in LITERALS}


def size(expression: Expression) -> int:
    """Number of literals as written."""
    operands = getattr(expression, "operands", None)
    if operands is not None:
        return sum(size(operand) for operand in operands)
    return 0 if isinstance(expression, TruthValue) else 1


def conjunctions() -> list[Expression]:
    signed = [*LITERALS, *map(opposite, LITERALS)]
    found = [conjunction_of(some) for count in (1, 2, 3) for some in combinations(signed, count)]
    return [one for one in found if holding(one)]


#: (machines, literals) of every conjunction of up to three literals.
CONJUNCTIONS = [(holding(one), size(one)) for one in conjunctions()]


@given(st.integers(0, EVERY_MACHINE), st.integers(0, EVERY_MACHINE))
def test_it_holds_where_asked_and_nowhere_else(on: int, care: int) -> None:
    off = care & ~on
    found = minimise(on=on, off=off, literals=MASKS)
    assert found is not None
    assert holding(found) & (on | off) == on
    assert minimise(on=on, off=off, literals=dict(reversed(MASKS.items()))) == found


@given(st.integers(1, EVERY_MACHINE), st.integers(0, EVERY_MACHINE))
def test_no_disjunction_of_up_to_three_is_shorter(on: int, care: int) -> None:
    off = care & ~on
    found = minimise(on=on, off=off, literals=MASKS)
    assert found is not None
    fitting = [(machines, length) for machines, length in CONJUNCTIONS if not machines & off]
    for some in chain.from_iterable(combinations(fitting, count) for count in (1, 2, 3)):
        covered = reduce(or_, (machines for machines, _ in some))
        if not on & ~covered:
            assert size(found) <= sum(length for _, length in some)


@pytest.mark.parametrize(
    "shortest",
    [
        "true",
        "hypervisor",
        "not hypervisor",
        "sme_supported and not hypervisor",
        "sme_supported and (sme_enabled or not hypervisor)",
        "sme_supported or hypervisor or sme_enabled",
        "(sme_supported and not hypervisor) or (hypervisor and not sme_supported)",
    ],
)
def test_what_is_shortest_already_comes_back(shortest: str) -> None:
    on = holding(parse(shortest))
    found = minimise(on=on, off=EVERY_MACHINE & ~on, literals=MASKS)
    assert found is not None
    assert holding(found) == on
    assert size(found) == size(parse(shortest))


def test_of_two_equally_short_the_positive_one_is_taken() -> None:
    # Two vendors only: "is Hygon's" and "is not AMD's" say the same.
    vendors = {parse('vendor == "AuthenticAMD"'): 0b0011, parse('vendor == "HygonGenuine"'): 0b1100}
    assert str(minimise(on=0b1100, off=0b0011, literals=vendors)) == 'vendor == "HygonGenuine"'


def test_machines_that_no_literal_tells_apart_have_no_expression() -> None:
    assert minimise(on=0b01, off=0b10, literals={AtomIs("hypervisor"): 0b11}) is None


@given(st.integers(0, EVERY_MACHINE), st.integers(0, 12), st.integers(1, 4))
def test_beyond_its_bounds_the_answer_is_still_right(on: int, conjoined: int, steps: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("staleline.policy.minimise._MAX_CONJUNCTIONS", conjoined)
        patch.setattr("staleline.policy.minimise._MAX_STEPS", steps)
        found = minimise(on=on, off=EVERY_MACHINE & ~on, literals=MASKS)
    assert found is not None
    assert holding(found) == on


def test_a_literal_and_its_opposite() -> None:
    leaf = parse("max_extended_leaf >= 0x8000001f")
    assert isinstance(leaf, Comparison)
    assert str(opposite(leaf)) == "max_extended_leaf < 0x8000001f"
    assert opposite(opposite(leaf)) == leaf
    assert opposite(opposite(AtomIs("hypervisor"))) == AtomIs("hypervisor")
    assert is_positive(leaf)
    assert not is_positive(opposite(leaf))


def test_literals_are_listed_once() -> None:
    expression = parse("not hypervisor and (sme_supported or hypervisor)")
    assert literals(expression) == (AtomIs("hypervisor"), AtomIs("sme_supported"))
    assert isinstance(expression, AllOf)

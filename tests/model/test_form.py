# SPDX-License-Identifier: GPL-2.0-or-later
"""Expressions of the guarded-command form."""

from __future__ import annotations

from staleline.model.form import FALSE, TRUE, And, Constant, Not, Or, Ref, Whose, all_of, any_of

A = Ref(Whose.GLOBAL, "a").one_of("x")
B = Ref(Whose.OWN, "b").one_of("x", "y")


def test_operators_build_flat_trees() -> None:
    assert And((A, B, A)) == A & B & A
    assert Or((A, B, A)) == A | B | A
    assert Not(A) == ~A
    assert Or((And((A, B)), A)) == (A & B) | A


def test_constants_disappear() -> None:
    assert A & TRUE == A
    assert A | FALSE == A
    assert A & FALSE == FALSE
    assert A | TRUE == TRUE
    assert ~TRUE == FALSE


def test_empty_conjunction_is_true_and_empty_disjunction_false() -> None:
    assert all_of() == Constant(True)
    assert any_of() == Constant(False)


def test_expressions_are_values() -> None:
    assert Ref(Whose.GLOBAL, "a").one_of("x") == A
    assert len({A, Ref(Whose.GLOBAL, "a").one_of("x"), B}) == 2

# SPDX-License-Identifier: GPL-2.0-or-later
"""Random rules on random facts: the evaluators and z3 read an expression alike."""

from __future__ import annotations

import z3
from hypothesis import given
from hypothesis import strategies as st

from staleline.policy.atoms import AtomValue, atoms
from staleline.policy.columns import evaluate_columns
from staleline.policy.evaluate import evaluate
from staleline.policy.expression import AnyOf, Expression, parse
from staleline.policy.smt import condition_where, equivalent, to_z3

from .test_evaluate import domain
from .test_expression import expressions

Row = dict[str, AtomValue]


def rows(*, known: bool) -> st.SearchStrategy[Row]:
    extra = () if known else (None,)
    return st.fixed_dictionaries(
        {name: st.sampled_from((*domain(name), *extra)) for name in atoms()}
    )


@given(expressions(), st.lists(rows(known=False), max_size=6))
def test_columns_give_what_one_machine_at_a_time_gives(
    expression: Expression, machines: list[Row]
) -> None:
    columns = {name: [machine[name] for machine in machines] for name in atoms()}
    found = list(evaluate_columns(expression, columns, len(machines)).values())
    assert found == [evaluate(expression, machine) for machine in machines]


def test_a_missing_column_is_unknown() -> None:
    column = evaluate_columns(parse("hypervisor or sme_supported"), {"hypervisor": [True, None]}, 2)
    assert list(column.values()) == [True, None]


def as_formula(machine: Row) -> z3.BoolRef:
    """The machine's facts as a z3 formula, by way of the language's own comparisons."""
    parts = []
    for name, value in machine.items():
        if isinstance(value, bool):
            parts.append(to_z3(parse(name if value else f"not {name}")))
        else:
            literal = f'"{value}"' if isinstance(value, str) else str(value)
            parts.append(to_z3(parse(f"{name} == {literal}")))
    return z3.And(*parts)


@given(expressions(), rows(known=True))
def test_z3_decides_what_the_evaluator_decides(expression: Expression, machine: Row) -> None:
    solver = z3.Solver()
    solver.add(as_formula(machine), to_z3(expression))
    assert (solver.check() == z3.sat) is evaluate(expression, machine)


@given(expressions(), expressions())
def test_a_difference_is_exactly_where_one_rule_holds_and_the_other_does_not(
    left: Expression, right: Expression
) -> None:
    only_left = condition_where(left, right)
    only_right = condition_where(right, left)
    assert equivalent(left, right) is (only_left is None and only_right is None)
    if only_left is not None:
        assert condition_where(only_left, left) is None
        assert condition_where(left, AnyOf((only_left, right))) is None


def test_rules_that_differ_only_on_impossible_machines_are_the_same() -> None:
    checked = parse("max_extended_leaf >= 0x8000001f and sme_supported")
    assert equivalent(checked, parse("sme_supported"))
    assert equivalent(parse("not seamcalled or tdx_host_enabled"), parse("true"))
    assert not equivalent(parse("sme_supported or not sme_active"), parse("true"))

# SPDX-License-Identifier: GPL-2.0-or-later
"""The expression language accepts what is written down, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.errors import PolicyError
from staleline.policy.atoms import AtomType, atoms
from staleline.policy.expression import (
    AllOf,
    AnyOf,
    AtomIs,
    Comparison,
    Expression,
    Negation,
    Operator,
    TruthValue,
    atoms_read,
    expand,
    parse,
)

BOOLEAN_ATOMS = [atom.name for atom in atoms().values() if atom.type is AtomType.BOOL]


def expressions() -> st.SearchStrategy[Expression]:
    leaves = st.one_of(
        st.booleans().map(TruthValue),
        st.sampled_from(BOOLEAN_ATOMS).map(AtomIs),
        st.builds(
            Comparison,
            st.just("max_extended_leaf"),
            st.sampled_from(Operator),
            st.integers(0, 2**32 - 1),
        ),
        st.builds(
            Comparison,
            st.just("vendor"),
            st.sampled_from([Operator.EQ, Operator.NE]),
            st.sampled_from(["AuthenticAMD", "HygonGenuine", "GenuineIntel"]),
        ),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(Negation),
            st.lists(inner, min_size=2, max_size=3).map(lambda xs: AllOf(tuple(xs))),
            st.lists(inner, min_size=2, max_size=3).map(lambda xs: AnyOf(tuple(xs))),
        ),
        max_leaves=8,
    )


def flattened(expression: Expression) -> Expression:
    """Nested conjunctions (or disjunctions) print without parentheses and parse as one."""
    match expression:
        case Negation(operand):
            return Negation(flattened(operand))
        case AllOf(operands) | AnyOf(operands):
            kind = type(expression)
            inner = [flattened(operand) for operand in operands]
            flat = [part for x in inner for part in (x.operands if isinstance(x, kind) else (x,))]
            return kind(tuple(flat))
        case _:
            return expression


@given(expressions())
def test_what_is_printed_parses_to_the_same_expression(expression: Expression) -> None:
    assert parse(str(expression)) == flattened(expression)


def test_precedence_is_pythons() -> None:
    assert parse("hypervisor or sme_supported and not sme_enabled") == AnyOf(
        (
            AtomIs("hypervisor"),
            AllOf((AtomIs("sme_supported"), Negation(AtomIs("sme_enabled")))),
        )
    )


def test_attributes_are_replaced_by_their_definitions() -> None:
    expression = parse("not cc(SME) or hypervisor")
    assert str(expand(expression, {"SME": parse("sme_supported")})) == (
        "not sme_supported or hypervisor"
    )


def test_atoms_are_listed_once_in_order() -> None:
    expression = parse('vendor == "AuthenticAMD" and (sme_active or hypervisor or sme_active)')
    assert atoms_read(expression) == ("vendor", "sme_active", "hypervisor")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not an expression"),
        ("sme_supported and", "not an expression at column"),
        ("sme_suported", "did you mean sme_supported?"),
        ("max_extended_leaf", "compare it with a value"),
        ("sme_supported == 1", "cannot be compared"),
        ('vendor >= "AuthenticAMD"', "cannot be compared"),
        # By a slip in a name a rule would flush everywhere, or nowhere.
        ('vendor != "AuthenticAmd"', "did you mean AuthenticAMD?"),
        ('vendor == "  Shanghai  "', "use CentaurHauls, AuthenticAMD"),
        ('vendor == ""', "no vendor of CPUs"),
        ("max_extended_leaf >= true", "not part of the language"),
        ("max_extended_leaf >= True", "cannot be compared"),
        ("__import__('os').system('true')", "not part of the language"),
        ("sme_supported if hypervisor else sme_active", "not part of the language"),
        ("cc('SME')", "not part of the language"),
        ("not " * 60 + "hypervisor", "levels of nesting"),
        ("(" * 900 + "hypervisor" + ")" * 900, "not an expression"),
        ("hypervisor or " * 200 + "hypervisor", "characters"),
        ("hyper\0visor", "not an expression"),
        ("max_extended_leaf >= 1or hypervisor", "not an expression"),  # Python only warns
    ],
)
def test_anything_else_is_refused_with_a_reason(text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=r"^policy\.toml: ") as caught:
        parse(text, where="policy.toml: sites.stop_this_cpu")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=80))
def test_no_text_raises_anything_but_a_policy_error(text: str) -> None:
    try:
        parse(text)
    except PolicyError:
        return
    assert text.strip()

# SPDX-License-Identifier: GPL-2.0-or-later
"""A condition says of every machine what the rows say, or there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.rule.grid import AXES, grid_of
from staleline.kernel.rule.imagepolicy import SiteRule, image_policy
from staleline.kernel.rule.tableproof import agrees
from staleline.kernel.rule.truthrows import TruthTable
from staleline.policy.evaluate import evaluate
from staleline.policy.expression import AllOf, AnyOf, Expression, Negation, parse
from staleline.policy.smt import equivalent
from staleline.vocabulary import Site
from tests.kernel.tables import Rule, can_exist, combinations, machines, table, with_flags

TELLING = [
    'vendor == "AuthenticAMD"',
    'vendor == "HygonGenuine"',
    'vendor != "GenuineIntel"',
    "max_extended_leaf >= 0x8000001f",
    "sme_supported",
    *(name for name in AXES if name not in {"vendor", "max_extended_leaf"}),
    "sme_active",
]


def expressions() -> st.SearchStrategy[Expression]:
    """Over everything that the rows of a table can tell."""
    return st.recursive(
        st.sampled_from(TELLING).map(parse),
        lambda inner: st.one_of(
            inner.map(Negation),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: AllOf(tuple(parts))),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
        ),
        max_leaves=7,
    )


def as_rule(expression: Expression | str) -> Rule:
    parsed = parse(expression) if isinstance(expression, str) else expression
    return lambda facts: evaluate(parsed, facts.atoms())


def never(facts: RawFacts) -> bool:
    return False


def stop_rule(rule: Rule, rows: Sequence[RawFacts] | None = None) -> SiteRule:
    return image_policy(table(rule, never, rows=rows)).rules[Site.STOP_THIS_CPU]


# What it says


@given(expressions())
@settings(max_examples=60)
def test_a_rule_comes_back_from_its_own_table(expression: Expression) -> None:
    found = stop_rule(as_rule(expression))
    assert found.condition is not None
    assert found.unknown == ()
    assert equivalent(found.condition, expression)


@pytest.mark.parametrize(
    ("rule", "shortest"),
    [
        # The leaf is part of what "supported" means, and only AMD's and Hygon's CPUs have SME.
        ("max_extended_leaf >= 0x8000001f and sme_supported", "sme_supported"),
        (
            'sme_supported and (sme_enabled or vendor != "AuthenticAMD")',
            'sme_supported and (vendor == "HygonGenuine" or sme_enabled)',
        ),
        ("sme_bit_unchecked", "sme_bit_unchecked"),
        (
            '(vendor == "AuthenticAMD" and sme_supported) or seamcalled',
            'seamcalled or (vendor == "AuthenticAMD" and sme_supported)',
        ),
        ("sme_active", "sme_active"),
        ("not hypervisor and sme_enabled and mem_encrypt", "sme_active"),
        # A guest may be shown its host's SYSCFG[23].
        ("sme_enabled and mem_encrypt", "sme_enabled and mem_encrypt"),
        ("not hypervisor", "not hypervisor"),
        ("false", "false"),
        ("hypervisor or not hypervisor", "true"),
        ("sme_supported and seamcalled", "false"),
    ],
)
def test_the_condition_is_as_short_as_the_machines_allow(rule: str, shortest: str) -> None:
    assert str(stop_rule(as_rule(rule)).condition) == shortest


def test_the_kernels_own_encryption_is_said_in_facts() -> None:
    policy = image_policy(table(never, never))
    assert str(policy.encrypts.condition) == "not hypervisor and sme_enabled and mem_encrypt"
    assert policy.encrypts.reads == ("hypervisor", "sme_enabled", "mem_encrypt")


def test_sme_active_is_not_said_of_a_kernel_that_encrypts_otherwise() -> None:
    amd_only = as_rule('vendor == "AuthenticAMD" and sme_active')
    policy = image_policy(table(never, as_rule("sme_active"), encrypts=amd_only))
    condition = policy.rules[Site.RELOCATE_KERNEL].condition
    assert str(condition) == "not hypervisor and sme_enabled and mem_encrypt"


# What it depends on

FACT_OF_ATOM: Mapping[str, str] = {
    "leaf": "max_extended_leaf",
    "sev_status": "sev_guest",
    "sev_es": "sev_es_guest",
    "sev": "sev_supported",
    "tdx_keyids": "tdx_host_enabled",
}


def atoms_that_matter(rule: Rule) -> set[str]:
    """By trying: two machines that differ in one fact, and are treated differently."""
    everyone = set(machines())
    found = set()
    for facts in everyone:
        others = [replace(facts, vendor=other.vendor) for other in everyone]
        flags = [field.name for field in fields(RawFacts) if field.name != "vendor"]
        if any(other in everyone and rule(other) != rule(facts) for other in set(others)):
            found.add("vendor")
        for name in flags:
            other = with_flags(facts, {name: not getattr(facts, name)})
            if other in everyone and rule(other) != rule(facts):
                sme = "sme_supported" if facts.leaf else "sme_bit_unchecked"
                found.add(sme if name == "sme" else FACT_OF_ATOM.get(name, name))
    return found - {"sme_supported"} if "sme_bit_unchecked" in found else found


@given(expressions())
@settings(max_examples=10)
def test_it_reads_what_makes_a_difference_alone(expression: Expression) -> None:
    rule = as_rule(expression)
    assert set(stop_rule(rule).reads) == atoms_that_matter(rule)


@pytest.mark.parametrize(
    ("rule", "reads"),
    [
        (
            "max_extended_leaf >= 0x8000001f and sme_supported",
            ("max_extended_leaf", "sme_supported"),
        ),
        ("sme_bit_unchecked", ("sme_bit_unchecked",)),
        ("sev_supported", ("max_extended_leaf", "sev_supported")),
        ("sme_active", ("hypervisor", "sme_enabled", "mem_encrypt")),
        ("true", ()),
    ],
)
def test_what_an_expression_does_not_name_may_matter(rule: str, reads: tuple[str, ...]) -> None:
    assert stop_rule(as_rule(rule)).reads == reads


# What it does not say


def without_end(where: Callable[[RawFacts], bool]) -> Rule:
    return lambda facts: None if where(facts) else facts.leaf and facts.sme


@given(st.sets(st.sampled_from(machines()), min_size=1, max_size=3))
@settings(max_examples=30)
def test_any_machine_whose_run_did_not_end_leaves_no_condition(open_ends: set[RawFacts]) -> None:
    found = stop_rule(without_end(lambda facts: facts in open_ends))
    assert found.condition is None
    assert any("f+0x10" in reason for reason in found.unknown)


@given(st.sets(st.sampled_from(machines()), min_size=1, max_size=3))
@settings(max_examples=30)
def test_any_machine_that_was_not_run_leaves_no_condition(missing: set[RawFacts]) -> None:
    cells = {tuple(facts.atoms().values()) for facts in missing}
    rows = [facts for facts in machines() if tuple(facts.atoms().values()) not in cells]
    found = stop_rule(as_rule("sme_supported"), rows=rows)
    assert found.condition is None
    assert any("no run with these facts" in reason for reason in found.unknown)


def test_machines_that_cannot_exist_may_stay_open() -> None:
    every_row = combinations("tdx_keyids", "seamcalled", "snp_host")
    found = stop_rule(without_end(lambda facts: not can_exist(facts)), rows=every_row)
    assert str(found.condition) == "sme_supported"
    assert found.unknown == ()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ('vendor == "HygonGenuine"', 'where vendor == "HygonGenuine": the run stopped at f+0x10'),
        ("snp_host", "where snp_host: the run stopped"),
        ("true", "on every machine: the run stopped at f+0x10"),
    ],
)
def test_a_reason_says_on_which_machines(where: str, says: str) -> None:
    place = as_rule(where)
    (reason,) = stop_rule(without_end(lambda facts: bool(place(facts)))).unknown
    assert says in reason


def test_many_reasons_are_not_all_told() -> None:
    rows = tuple(
        replace(row, sites={Site.STOP_THIS_CPU: SiteDecision(None, f"stopped at {index:#x}")})
        for index, row in enumerate(table(never, never).rows)
    )
    rule = image_policy(TruthTable(rows, 0)).rules[Site.STOP_THIS_CPU]
    assert len(rule.unknown) == 5
    assert rule.unknown[-1] == f"{len(rows) - 4} more reasons like these"


def test_a_rule_that_nobody_could_read_is_not_told() -> None:
    def at_random(facts: RawFacts) -> bool:
        return blake2b(repr(sorted(facts.atoms().items())).encode()).digest()[0] % 2 == 1

    found = stop_rule(at_random)
    assert found.condition is None
    assert found.unknown == ("no condition of up to 2000 characters says it",)


def test_no_rows_tell_nothing() -> None:
    policy = image_policy(TruthTable((), 0))
    assert policy.rules == {}
    assert policy.equals == ()
    assert policy.unknown[0] == "encryption: on every machine: no run with these facts"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (lambda facts: facts.sme and not facts.preserve_context, "preserve_context"),
        (lambda facts: facts.sev and not facts.leaf, "bit 1 of CPUID 0x8000001F"),
        (lambda facts: facts.vendor == "  Shanghai  ", "vendors that no policy names"),
    ],
)
def test_what_no_atom_names_is_not_left_out(rule: Rule, says: str) -> None:
    zhaoxin = [facts for facts in machines() if facts.vendor == "  Shanghai  "]
    rows = [*machines(), *(replace(facts, vendor="CentaurHauls") for facts in zhaoxin)]
    found = stop_rule(rule, rows=rows)
    assert found.condition is None
    assert any(says in reason for reason in found.unknown)


def test_code_that_is_not_there_needs_no_rows() -> None:
    rows = [facts for facts in combinations() if can_exist(facts)]
    with_rows = table(as_rule("sme_supported"), never, rows=rows)
    lacking = image_policy(with_rows, lacks=("seamcalled", "snp_host"))
    assert str(lacking.rules[Site.STOP_THIS_CPU].condition) == "sme_supported"
    having = image_policy(with_rows)
    assert having.rules[Site.STOP_THIS_CPU].condition is None
    assert "tdx_host_enabled or snp_host: no run" in having.unknown[0]


# The proof


@given(expressions(), st.sampled_from(machines()))
@settings(max_examples=40)
def test_z3_finds_one_machine_that_differs(expression: Expression, odd: RawFacts) -> None:
    rows = list(machines())
    grid = grid_of(rows, ())
    rule = as_rule(expression)
    same = [facts.atoms() == odd.atoms() for facts in rows]
    holds = [bool(rule(facts)) for facts in rows]
    wrong = [value != one for value, one in zip(holds, same, strict=True)]
    for outcome, confirmed in ((holds, True), (wrong, False)):
        happens = grid.along_axes(grid.cells(outcome))
        does_not = grid.along_axes(grid.cells([not value for value in outcome]))
        assert agrees(expression, happens, does_not) is confirmed


def test_z3_finds_a_machine_that_is_in_no_row() -> None:
    rows = [facts for facts in machines() if facts.vendor != "HygonGenuine"]
    grid = grid_of(rows, ())
    happens = grid.along_axes(grid.cells([facts.leaf for facts in rows]))
    does_not = grid.along_axes(grid.cells([not facts.leaf for facts in rows]))
    assert not agrees(parse("max_extended_leaf >= 0x8000001f"), happens, does_not)


def test_atoms_of_the_grid_are_those_of_the_facts() -> None:
    rows = combinations("tdx_keyids", "seamcalled", "snp_host")
    grid = grid_of(rows, ())
    for literal in map(parse, TELLING):
        found = grid.where(literal)[grid.places]
        assert found.tolist() == [evaluate(literal, facts.atoms()) for facts in rows]
    assert grid.possible[grid.places].tolist() == [can_exist(facts) for facts in rows]

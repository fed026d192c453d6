# SPDX-License-Identifier: GPL-2.0-or-later
"""The claims of the threads: what becomes of each is computed, and stays what it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.policy.expression import parse
from staleline.verdict.handover.kernels import FixedKernel
from staleline.verdict.policies.claims import (
    Expect,
    HandoverStatement,
    RuleStatement,
    Status,
    claims,
    judge_claim,
)
from staleline.verdict.policies.platforms import Selection
from staleline.vocabulary import Path, Site, Verdict

# (a) to (g): LKML November 2023; the others: February 2024 to April 2025. Where a claim is
# true under a condition, its text in claims.toml names it.
EXPECTED = {
    "a": Status.CONDITIONAL,
    "b": Status.CONDITIONAL,
    "c": Status.CONDITIONAL,
    "d": Status.PROVED,
    "e": Status.CONDITIONAL,
    "f": Status.CONDITIONAL,
    "g": Status.PROVED,
    "sme-me-mask": Status.CONDITIONAL,
    "unconditional": Status.CONDITIONAL,
    "bare-metal": Status.PROVED,
    "percpu-flag": Status.CONDITIONAL,
}


def test_every_claim_has_an_expectation_here() -> None:
    assert list(claims()) == list(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_becomes_of_a_claim(name: str) -> None:
    result = judge_claim(claims()[name])
    assert result.status is EXPECTED[name]
    if result.status is Status.CONDITIONAL:
        assert result.claim.condition
        assert not all(outcome.holds for outcome in result.outcomes)
        assert all(outcome.holds for outcome in result.under_condition)


def test_an_exception_that_is_at_risk_comes_with_its_interleaving() -> None:
    (outcome,) = judge_claim(claims()["c"]).outcomes
    assert outcome.exception is not None
    assert outcome.exception.judgement.verdict is Verdict.AT_RISK
    assert outcome.counterexample is not None
    last = outcome.counterexample.steps[-1]
    assert last.actor == "secondary 1"
    assert "destroys" in last.sentence


def test_the_proposals_cost_is_derived_from_the_rules() -> None:
    evidence = [outcome.evidence for outcome in judge_claim(claims()["f"]).under_condition]
    assert evidence[0] == (
        "relocate_kernel: adds tdx_host_enabled or (sme_supported and not sme_active); "
        "drops nowhere"
    )
    assert evidence[1] == "stop_this_cpu: adds tdx_host_enabled; drops nowhere"


def test_a_wrong_statement_about_a_rule_does_not_hold() -> None:
    claim = claims()["f"]
    (statement, _) = claim.under_condition
    assert isinstance(statement, RuleStatement)
    for wrong in ("tdx_host_enabled", "sme_supported or tdx_host_enabled", "hypervisor"):
        changed = replace(claim, statements=(replace(statement, adds=parse(wrong)),))
        changed = replace(changed, under_condition=())
        assert judge_claim(changed).status is Status.REFUTED


def test_a_claim_whose_condition_does_not_help_is_refuted() -> None:
    selection = Selection(platforms=frozenset({"amd-sme-incoherent"}), old=True, path=Path.KEXEC)
    none = FixedKernel({Site.STOP_THIS_CPU: False, Site.RELOCATE_KERNEL: False})
    statement = HandoverStatement(none, selection, Expect.SAFE)
    claim = replace(claims()["c"], statements=(statement,), under_condition=(statement,))
    assert judge_claim(claim).status is Status.REFUTED

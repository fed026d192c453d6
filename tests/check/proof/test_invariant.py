# SPDX-License-Identifier: GPL-2.0-or-later
"""The readable invariant: it holds for safe kexecs, and its failure names the missing flush."""

from __future__ import annotations

import pytest

from staleline.check.meaning.interpreter import holds, reachable
from staleline.check.proof.handover_invariant import invariant
from staleline.check.proof.invariant import check_invariant, conditions, invariant_smtlib
from staleline.check.proof.solver import Reply, ask
from staleline.check.requirements import required_flushes
from staleline.errors import ModelError
from staleline.model.scenario import Flush, ForeignLines, ReportOrder, Scenario
from staleline.model.state.lines import Role
from staleline.model.world import world
from staleline.vocabulary import Site
from tests.check.scenarios import TRANSITIONS, crash, kexec

#: Without the flush of the secondaries: what the step that skips it does not keep.
NO_STOP_FLUSH = "flushed by stop_this_cpu: kept by stop_this_cpu: secondary_halts_unflushed"
#: Without the flush of the jumping CPU.
NO_RELOCATE_FLUSH = "flushed by relocate_kernel: kept by relocate_kernel: jumping_skips_flush"

#: The proposal: both sites flush wherever memory can be incoherent.
PROPOSAL = {
    f"{transition}, {foreign}": kexec(transition, foreign=foreign)
    for transition in TRANSITIONS
    for foreign in ForeignLines
}
AFTER_SEAMCALL = Flush.AFTER_SEAMCALL


def _percpu(**changes: object) -> Scenario:
    """The per-CPU flag of commit 83214a775f33 (v6.18) on a TDX host."""
    flushes = {"flush_secondary": AFTER_SEAMCALL, "flush_jumping": AFTER_SEAMCALL}
    return kexec("off→off", foreign=ForeignLines.TDX, **(flushes | changes))


def _failing(scenario: Scenario) -> set[str]:
    return {condition.name for _, condition in check_invariant(scenario).failures}


@pytest.mark.parametrize("name", PROPOSAL)
def test_it_holds_for_the_proposal(name: str) -> None:
    outcome = check_invariant(PROPOSAL[name])
    assert outcome.holds
    assert outcome.conditions > 1000


def test_it_holds_for_the_percpu_flag() -> None:
    assert check_invariant(_percpu()).holds


@pytest.mark.parametrize("name", PROPOSAL)
@pytest.mark.parametrize(
    ("site", "field", "expected"),
    [
        (Site.STOP_THIS_CPU, "flush_secondary", NO_STOP_FLUSH),
        (Site.RELOCATE_KERNEL, "flush_jumping", NO_RELOCATE_FLUSH),
    ],
)
def test_without_a_flush_exactly_its_condition_fails(
    name: str, site: Site, field: str, expected: str
) -> None:
    # If the flush is not needed, nothing fails: the invariant asks for no more than the model.
    transition, foreign = name.split(", ")
    scenario = kexec(transition, foreign=ForeignLines(foreign), **{field: Flush.NEVER})
    needed = site in required_flushes(scenario).needed
    assert _failing(scenario) == ({expected} if needed else set())


def test_without_the_percpu_flag_at_one_site_its_condition_fails() -> None:
    assert _failing(_percpu(flush_secondary=Flush.NEVER)) == {NO_STOP_FLUSH}
    assert _failing(_percpu(flush_jumping=Flush.NEVER)) == {NO_RELOCATE_FLUSH}


def test_the_percpu_flag_does_not_count_c_bit_lines() -> None:
    scenario = kexec(
        "on→off",
        foreign=ForeignLines.TDX,
        flush_secondary=AFTER_SEAMCALL,
        flush_jumping=AFTER_SEAMCALL,
    )
    assert _failing(scenario) == {NO_STOP_FLUSH, NO_RELOCATE_FLUSH}


def test_without_the_last_store_to_the_stop_mask_its_line_stays_dirty() -> None:
    # Comment in 7.3 arch/x86/kernel/smp.c:238.
    outcome = check_invariant(kexec("on→off", clears_stop_mask=False))
    assert [(line, condition.name) for line, condition in outcome.failures] == [
        ("stop-mask", "flushed by stop_this_cpu: kept by stop_this_cpu: secondary_halts_flushed")
    ]


def test_a_flush_that_faults_is_named() -> None:
    # SEV-ES, SNP and TDX guests: v2 of the TDX kexec series, March 2024.
    scenario = kexec("on→on", incoherent=False, flush_faults=True, flush_jumping=Flush.NEVER)
    assert _failing(scenario) == {"no fault: kept by stop_this_cpu: secondary_flush_faults"}


@pytest.mark.parametrize(
    "scenario", [crash("off→off"), kexec("off→off", report=ReportOrder.BEFORE_FLUSH)]
)
def test_what_it_is_not_written_for_is_refused(scenario: Scenario) -> None:
    with pytest.raises(ModelError, match="no readable invariant"):
        check_invariant(scenario)


def test_the_interpreter_agrees_that_every_clause_holds_in_every_reachable_state() -> None:
    scenario = kexec("on→on")
    for line, model in world(scenario):
        clauses = invariant(scenario, line)
        for state in reachable(model, 2):
            assert [c.name for c in clauses if not holds(model, c.holds, state)] == []


def test_every_clause_is_needed() -> None:
    needed: set[str] = set()
    every: set[str] = set()
    for scenario, role in (
        (kexec("on→on"), Role.IMAGE),
        (kexec("off→on", flush_jumping=Flush.NEVER), Role.IMAGE),
        (_percpu(), Role.FOREIGN_IMAGE),
    ):
        line, model = next(case for case in world(scenario) if case[0].role is role)
        clauses = invariant(scenario, line)
        every |= {clause.name for clause in clauses}
        reduced = [tuple(kept for kept in clauses if kept is not gone) for gone in clauses]
        replies = ask([invariant_smtlib(model, rest) for rest in reduced])
        needed |= {
            gone.name
            for gone, answers in zip(clauses, replies, strict=True)
            if set(answers) != {Reply.UNSAT}
        }
    assert needed == every


def test_every_condition_has_a_name_of_its_own() -> None:
    scenario = _percpu()
    for line, model in world(scenario):
        names = [one.name for one in conditions(model, invariant(scenario, line))]
        assert len(names) == len(set(names))

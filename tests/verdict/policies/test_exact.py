# SPDX-License-Identifier: GPL-2.0-or-later
"""All models of a rule for an exact number of CPUs: those that behave alike are explored once."""

from dataclasses import replace

import pytest

from staleline.check.diagrams.decisiondiagram import behaviour, explore
from staleline.kernel.reading.imagereport import ReadingOptions
from staleline.model.state.lines import Role
from staleline.report.policies.check import RuleCheck, check_document
from staleline.verdict.handover.namedrules import named_rules
from staleline.verdict.policies.exact import agreement, distinct_models, explored_models
from staleline.verdict.policies.platforms import Selection, check_kernel
from staleline.vocabulary import Path, Verdict


@pytest.fixture(scope="module")
def models():
    (rule,) = named_rules(("linux-6.5",), ReadingOptions())
    return distinct_models(tuple(check_kernel(rule.kernel, Selection())))


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_model_has_what_its_own_exploration_finds(models, jobs):
    some = models[:: 1 if jobs == 1 else 8]
    explored = dict(explored_models(some, cpus=3, jobs=jobs))
    assert list(dict.fromkeys(some)) == sorted(explored, key=some.index)
    for model in some:
        own = explore(model, secondaries=2)
        assert (explored[model].states, explored[model].broken) == (own.states, own.broken)


def test_there_are_such_models(models):
    assert len({behaviour(model) for model in models}) < len(models) - 10


def _rows(rule, **selected):
    (named,) = named_rules((rule,), ReadingOptions())
    selection = Selection(platforms=frozenset({"hygon-sme-incoherent"}), **selected)
    return named, tuple(check_kernel(named.kernel, selection))


def _exact(rows, cpus):
    return agreement(rows, tuple(explored_models(distinct_models(rows), cpus)), cpus)


@pytest.mark.parametrize("role", [Role.REST, Role.STOP_MASK, Role.CRASH_CONTROL])
def test_it_looks_at_the_lines_that_the_verdicts_are_about_and_at_no_others(role):
    _, every_line = _rows("linux-6.18")
    named, rows = _rows("linux-6.18", roles=frozenset({role}))
    exact = _exact(rows, 3)
    assert exact.models < _exact(every_line, 3).models
    assert not exact.disagreeing
    assert check_document(RuleCheck(named, rows, exact))["exact"]["agrees"]


def test_what_breaks_with_more_cpus_only_is_no_disagreement_and_is_told():
    _, rows = _rows("linux-6.18", path=Path.KEXEC, sev_guests=False)
    exact = _exact(rows, 1)
    assert not exact.disagreeing
    # Its jumping CPU is flushed by __enc_copy, so that it takes a secondary.
    assert [(row.old, row.next) for row in exact.needing_more] == [(False, True)]
    assert not _exact(rows, 2).needing_more


@pytest.mark.parametrize("rule", ["linux-6.18", "host-mem-incoherent"])
def test_an_exploration_that_says_otherwise_is_a_disagreement(rule):
    _, rows = _rows(rule, path=Path.KEXEC)
    explored = dict(explored_models(distinct_models(rows), 3))
    turned = {
        model: replace(found, broken=() if found.broken else ("P1",))
        for model, found in explored.items()
    }
    wrong = agreement(rows, tuple(turned.items()), 3).disagreeing
    assert {row.judgement.verdict for row in wrong} <= {Verdict.SAFE, Verdict.AT_RISK}
    assert any(row.judgement.verdict is Verdict.SAFE for row in wrong)

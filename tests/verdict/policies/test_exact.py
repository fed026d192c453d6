# SPDX-License-Identifier: GPL-2.0-or-later
"""All models of a rule for an exact number of CPUs: those that behave alike are explored once."""

import pytest

from staleline.check.diagrams.decisiondiagram import behaviour, explore
from staleline.kernel.reading.imagereport import ReadingOptions
from staleline.verdict.handover.namedrules import named_rules
from staleline.verdict.policies.exact import distinct_models, explored_models
from staleline.verdict.policies.platforms import Selection, check_kernel


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

# SPDX-License-Identifier: GPL-2.0-or-later
"""The principles of evidence, over machines that are drawn, thinned and told in several ways.

`make properties` does the same with many times as many machines; docs/properties.md has its
last result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.properties.answers import Question
from tests.properties.images import cached_images
from tests.properties.rounds import Round, random_round, retold_round, thinned_round

_ROUNDS = settings(
    deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@pytest.fixture(scope="module")
def images(real_kernels: object) -> Mapping[str, Question]:
    """The kernels of the cache, which `real_kernels` has filled."""
    return cached_images()


def held(
    play: Callable[[Random, Mapping[str, Question]], Round],
    rounds: int,
    images: Mapping[str, Question],
) -> tuple[int, Counter[str]]:
    """How many machines a principle held for, and in what the audits ended."""
    machines, outcomes = 0, Counter[str]()

    @settings(_ROUNDS, max_examples=rounds)
    @given(random=st.randoms(use_true_random=True))
    def it_holds(random: Random) -> None:
        nonlocal machines
        done = play(random, images)
        machines += done.machines
        outcomes.update(done.outcomes)
        assert not done.violations, "\n".join(map(str, done.violations))

    it_holds()
    return machines, outcomes


def test_less_evidence_may_only_make_an_answer_unknown(images: Mapping[str, Question]) -> None:
    machines, outcomes = held(thinned_round, 40, images)
    assert machines >= 200
    assert min(outcomes[verdict] for verdict in ("safe", "at-risk", "unknown")) >= 20


def test_the_same_machine_told_in_two_ways_never_gets_two_definite_answers(
    images: Mapping[str, Question],
) -> None:
    machines, outcomes = held(retold_round, 40, images)
    assert machines >= 200
    assert outcomes["contradictory"] == 0
    assert min(outcomes[verdict] for verdict in ("safe", "at-risk", "unknown")) >= 20


def test_every_combination_of_facts_gets_a_verdict_or_a_named_contradiction(
    images: Mapping[str, Question],
) -> None:
    machines, outcomes = held(random_round, 60, images)
    assert machines >= 100
    assert min(outcomes[end] for end in ("unknown", "contradictory")) >= 10

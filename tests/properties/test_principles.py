# SPDX-License-Identifier: GPL-2.0-or-later
"""The principles of evidence, over machines that are drawn, thinned and told in several ways.

`make properties` does the same with many times as many machines; docs/properties.md has its
last result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from random import Random

from tests.properties.answers import Question
from tests.properties.rounds import Round, random_round, retold_round, thinned_round


def held(play: Callable[[Random, Mapping[str, Question]], Round], rounds: int) -> Counter[str]:
    """In what the audits ended; the machines are counted as such."""
    outcomes = Counter[str]()
    for seed in range(rounds):
        done = play(Random(f"a principle, {seed}"), {})  # images are asked in the long run
        outcomes.update(done.outcomes, machines=done.machines)
        assert not done.violations, "\n".join(map(str, done.violations))
    return outcomes


def test_less_evidence_may_only_make_an_answer_unknown() -> None:
    outcomes = held(thinned_round, 20)
    assert outcomes["machines"] >= 100
    assert min(outcomes[verdict] for verdict in ("safe", "at-risk", "unknown")) >= 10


def test_the_same_machine_told_in_two_ways_never_gets_two_definite_answers() -> None:
    outcomes = held(retold_round, 20)
    assert outcomes["machines"] >= 100
    assert outcomes["contradictory"] == 0
    assert min(outcomes[verdict] for verdict in ("safe", "at-risk", "unknown")) >= 10


def test_every_combination_of_facts_gets_a_verdict_or_a_named_contradiction() -> None:
    outcomes = held(random_round, 30)
    assert outcomes["machines"] >= 50
    assert min(outcomes[end] for end in ("unknown", "contradictory")) >= 5

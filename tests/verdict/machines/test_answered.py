# SPDX-License-Identifier: GPL-2.0-or-later
"""What follows from answers by bits is what the exclusions say, read one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from staleline.verdict.machines.answered import Answered, followed
from staleline.verdict.machines.exclusions import EXCLUSIONS, POINTLESS

NAMES = tuple(
    dict.fromkeys(
        name
        for facts in (*EXCLUSIONS, *((*when, *names) for when, names in POINTLESS))
        for name in facts
    )
)
ANSWERS = st.fixed_dictionaries({name: st.sampled_from((None, True, False)) for name in NAMES})


def as_dict(answered: Answered) -> dict[str, bool | None]:
    return {
        name: bool(answered.true >> bit & 1) if answered.known >> bit & 1 else None
        for bit, name in enumerate(answered.names)
    }


@given(ANSWERS)
def test_answers_survive(answers: dict[str, bool | None]) -> None:
    answered = Answered.of(answers)
    assert as_dict(answered) == answers
    unknown = [name for name, answer in answers.items() if answer is None]
    assert answered.first_unknown == next(iter(unknown), None)
    for name in unknown[:1]:
        assert as_dict(answered.answering(name, True)) == answers | {name: True}
        assert as_dict(answered.answering(name, False)) == answers | {name: False}


@given(ANSWERS)
def test_an_exclusion_is_broken_exactly_if_all_of_it_holds(
    answers: dict[str, bool | None],
) -> None:
    after, broken = followed(Answered.of(answers))
    reached = as_dict(after)
    whole = [one for one in EXCLUSIONS if all(reached[name] is one[name] for name in one)]
    assert broken == (whole[0] if whole else None)


@given(ANSWERS)
def test_nothing_is_answered_that_the_others_leave_open(answers: dict[str, bool | None]) -> None:
    """Each new answer is forced by an exclusion of which all else holds, or makes no difference."""
    after, broken = followed(Answered.of(answers))
    reached = as_dict(after)
    for name, value in reached.items():
        if answers[name] is not None:
            assert value is answers[name]
        elif value is not None:
            forced = any(
                one.get(name) is (not value)
                and all(reached[other] is one[other] for other in one if other != name)
                for one in EXCLUSIONS
            )
            pointless = any(
                name in names and all(reached[fact] is when[fact] for fact in when)
                for when, names in POINTLESS
            )
            assert forced or (pointless and value is False) or broken is not None


@given(ANSWERS)
def test_nothing_more_follows(answers: dict[str, bool | None]) -> None:
    after, broken = followed(Answered.of(answers))
    if broken is None:
        reached = as_dict(after)
        for exclusion in EXCLUSIONS:
            left = [name for name in exclusion if reached[name] is not exclusion[name]]
            pointless = {name for _, names in POINTLESS for name in names}
            assert len(left) > 1 or reached[left[0]] is not None or left[0] in pointless

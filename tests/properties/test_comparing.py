# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts as claiming more than the evidence, and as two answers to one question."""

from __future__ import annotations

import pytest

from tests.properties.answers import Answer, Answers
from tests.properties.comparing import disagreements, overclaims

SAFE = Answer({"verdict": "safe"})
AT_RISK = Answer({"verdict": "at-risk"})
UNKNOWN = Answer({"verdict": None})
CONTRADICTED = Answer(contradictions=("two-vendors",))
REFUSED = Answer(refused="is of no known format")


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (SAFE, SAFE),
        (UNKNOWN, SAFE),
        (UNKNOWN, UNKNOWN),
        (REFUSED, SAFE),
        (SAFE, CONTRADICTED),
        (CONTRADICTED, CONTRADICTED),
        (UNKNOWN, REFUSED),
    ],
)
def test_less_evidence_may_say_the_same_or_nothing(less: Answer, more: Answer) -> None:
    assert overclaims(Answers(less), Answers(more)) == []


@pytest.mark.parametrize(
    ("less", "more"),
    [(SAFE, AT_RISK), (SAFE, UNKNOWN), (AT_RISK, UNKNOWN), (CONTRADICTED, SAFE), (SAFE, REFUSED)],
)
def test_less_evidence_may_not_say_anything_else(less: Answer, more: Answer) -> None:
    assert len(overclaims(Answers(less), Answers(more))) == 1


def test_less_evidence_may_not_claim_a_fault_that_more_does_not() -> None:
    row = {"on→off kexec": "at-risk"}
    claim = frozenset({("on→off kexec", "relocate_kernel faults")})
    assert overclaims(Answers(Answer(row, claim)), Answers(Answer(row)))
    assert not overclaims(Answers(Answer(row, claim)), Answers(Answer({})))


def test_less_evidence_may_not_lose_a_transition() -> None:
    row = Answer({"verdict": None, "off→on kexec": None})
    assert overclaims(Answers(UNKNOWN), Answers(row))


def test_a_shorter_quotation_is_no_other_claim() -> None:
    less, more = Answer({"cmdline": "quiet"}), Answer({"cmdline": "ro quiet"})
    assert not overclaims(Answers(less), Answers(more))
    assert overclaims(Answers(less), Answers(Answer({"cmdline": None})))


def test_two_tellings_disagree_where_both_are_definite() -> None:
    assert disagreements(Answers(SAFE), Answers(AT_RISK)) == ["facts: verdict is safe and at-risk"]
    for other in (SAFE, UNKNOWN, REFUSED):
        assert disagreements(Answers(SAFE), Answers(other)) == []

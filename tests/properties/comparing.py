# SPDX-License-Identifier: GPL-2.0-or-later
"""The principles, as functions from two answers to the sentences that tell where one is broken."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.facts.caches import CACHE_NAMES
from tests.properties.answers import Answer, Answers, Question

__all__ = ["disagreements", "overclaims"]

#: Facts that quote evidence word for word: a shorter quotation is no other claim.
_QUOTATIONS = frozenset({"cmdline"})
#: Facts that differ between the CPUs of one machine (mixed steppings, cores of two kinds), so
#: that one CPU tells them and all do not. No verdict depends on them.
_OF_EACH_CPU = frozenset(
    {"signature", "family", "model", "stepping"}
    | {
        f"{fact}_{name}"
        for fact in ("sharers", "wbinvd_guaranteed")
        for name in CACHE_NAMES.values()
    }
)


def overclaims(less: Answers, more: Answers) -> list[str]:
    """Where less evidence claims what more evidence does not."""
    return [
        f"{question or 'facts'}: {what}"
        for question, answer, full in _pairs(less, more)
        for what in _overclaims(answer, full)
    ]


def _overclaims(less: Answer, more: Answer) -> Iterator[str]:
    if more.contradictions or less.refused:
        return
    if less.contradictions:
        yield f"less is contradictory: {', '.join(less.contradictions)}"
        return
    yield from _definite_with_less(less, more)
    if not more.refused:
        for name in more.values.keys() - less.values.keys():
            yield f"{name} is not in the answer with less"
        for row, claim in sorted(less.claims - more.claims):
            # More evidence may rule a whole transition out.
            if row in more.values:
                yield f"{row} {claim} is claimed with less only"


def _definite_with_less(less: Answer, more: Answer) -> Iterator[str]:
    for name, value in less.values.items():
        full = more.values.get(name)
        ruled_out = name not in more.values and not more.refused
        if value is None or value == full or ruled_out:
            continue
        if full is None and name in _OF_EACH_CPU and not more.refused:
            continue
        if not (name in _QUOTATIONS and full is not None):
            yield f"{name} is {value} with less and {full} with more"


def disagreements(one: Answers, other: Answers, whole: Answers | None = None) -> list[str]:
    """Where two tellings of one machine are given two definite answers.

    What each says of a transition that the whole machine, as far as it is told, rules out is of
    other machines.
    """
    whole = whole or one
    return [
        f"{question or 'facts'}: {what}"
        for question, answer, again in _pairs(one, other)
        for what in _disagreements(answer, again, _to(question, whole))
    ]


def _pairs(one: Answers, other: Answers) -> Iterator[tuple[Question | None, Answer, Answer]]:
    """The answers to each question that both were asked, and the facts without one."""
    yield None, one.facts, other.facts
    for question in one.audits.keys() & other.audits.keys():
        yield question, one.audits[question], other.audits[question]


def _to(question: Question | None, told: Answers) -> Answer:
    return told.facts if question is None else told.audits.get(question, Answer())


def _disagreements(one: Answer, other: Answer, whole: Answer) -> Iterator[str]:
    for name in one.values.keys() & other.values.keys():
        values = (one.values[name], other.values[name])
        ruled_out = bool(whole.values) and name not in whole.values
        if name in _QUOTATIONS or ruled_out or None in values:
            continue
        if values[0] != values[1]:
            yield f"{name} is {values[0]} and {values[1]}"

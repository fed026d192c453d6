# SPDX-License-Identifier: GPL-2.0-or-later
"""The principles, as functions from two answers to the sentences that tell where one is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from staleline.facts.caches import CACHE_NAMES
from tests.properties.answers import Answer, Answers

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
    return _compared(less, more, _overclaims)


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


def disagreements(one: Answers, other: Answers) -> list[str]:
    """Where two tellings of one machine are given two definite answers."""
    return _compared(one, other, _disagreements)


def _compared(
    one: Answers, other: Answers, differences: Callable[[Answer, Answer], Iterator[str]]
) -> list[str]:
    """What sets apart the answers to each question that both were asked."""
    asked: dict[object, tuple[Answer, Answer]] = {"facts": (one.facts, other.facts)}
    asked |= {
        name: (one.audits[name], other.audits[name]) for name in one.audits if name in other.audits
    }
    return [f"{name}: {what}" for name, pair in asked.items() for what in differences(*pair)]


def _disagreements(one: Answer, other: Answer) -> Iterator[str]:
    for name in one.values.keys() & other.values.keys():
        values = (one.values[name], other.values[name])
        if name not in _QUOTATIONS and None not in values and values[0] != values[1]:
            yield f"{name} is {values[0]} and {values[1]}"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Yes-or-no facts of a machine, answered or not, and the answers that follow from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Self

from staleline.verdict.machines.exclusions import EXCLUSIONS, POINTLESS

__all__ = ["Answered", "followed"]


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers to questions that have an order.

    Attributes:
        names: The questions; bit N of what follows is about the Nth.
        known: Which are answered.
        true: Which are answered by yes.
    """

    names: tuple[str, ...]
    known: int
    true: int

    @classmethod
    def of(cls, answers: Mapping[str, bool | None]) -> Self:
        """By name, None where a question is open."""
        known = true = 0
        for bit, answer in enumerate(answers.values()):
            known |= (answer is not None) << bit
            true |= bool(answer) << bit
        return cls(tuple(answers), known, true)

    @property
    def first_unknown(self) -> str | None:
        """The first open question."""
        # The lowest bit that is not set in `known`; beyond the last question all are clear.
        lowest = ~self.known & self.known + 1
        place = lowest.bit_length() - 1
        return self.names[place] if place < len(self.names) else None

    @property
    def as_mapping(self) -> Mapping[str, bool]:
        """Of answers that are complete."""
        return {name: bool(self.true >> bit & 1) for bit, name in enumerate(self.names)}

    def answering(self, name: str, value: bool) -> Answered:
        """With one more answer."""
        bit = 1 << self.names.index(name)
        return Answered(self.names, self.known | bit, self.true | bit if value else self.true)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Answers to some of the questions."""

    asked: int
    true: int


def followed(answered: Answered) -> tuple[Answered, Mapping[str, bool] | None]:
    """With the answers about which the others leave no choice, and the exclusion they break."""
    # Thousands of machines may fit little evidence, and each asks every exclusion: so the answers
    # are the bits of two numbers.
    known, true = answered.known, answered.true
    settled = False
    while not settled:
        settled = True
        for pattern, exclusion in zip(_exclusions(answered.names), EXCLUSIONS, strict=True):
            # One of its facts is known to be otherwise: it excludes nothing here.
            if pattern.asked & known & (true ^ pattern.true):
                continue
            left = pattern.asked & ~known
            if not left:
                return Answered(answered.names, known, true), exclusion
            # All hold but one that is open, so that one does not.
            if left & left - 1 == 0:
                known |= left
                true |= left & ~pattern.true
                settled = False
    # "No" stands here for "it makes no difference"; what was told stays as it was told.
    for pattern, pointless in _pointless(answered.names):
        if pattern.asked & known == pattern.asked and not pattern.asked & (true ^ pattern.true):
            known |= pointless
    return Answered(answered.names, known, true), None


@cache
def _exclusions(names: tuple[str, ...]) -> tuple[_Pattern, ...]:
    return tuple(_pattern(names, exclusion) for exclusion in EXCLUSIONS)


@cache
def _pointless(names: tuple[str, ...]) -> tuple[tuple[_Pattern, int], ...]:
    return tuple(
        (_pattern(names, when), _pattern(names, dict.fromkeys(without, False)).asked)
        for when, without in POINTLESS
    )


def _pattern(names: tuple[str, ...], answers: Mapping[str, bool]) -> _Pattern:
    bits = {name: 1 << place for place, name in enumerate(names)}
    return _Pattern(
        sum(bits[name] for name in answers), sum(bits[name] for name in answers if answers[name])
    )

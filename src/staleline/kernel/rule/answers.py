# SPDX-License-Identifier: GPL-2.0-or-later
"""Find out whether a run would only repeat an earlier one.

Runs from one start form a tree: each node is a question, each branch an answer, each leaf a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.traps import Answer, Question

__all__ = ["AnswerTree"]

Outcome = TypeVar("Outcome")


class _Node(Generic[Outcome]):
    """A question with the answers met so far, or what came out."""

    __slots__ = ("branches", "outcome", "question")

    def __init__(self) -> None:
        self.question: Question | None = None
        self.branches: dict[Answer, _Node[Outcome]] = {}
        self.outcome: Outcome | None = None


class AnswerTree(Generic[Outcome]):
    """Outcomes of runs that all began in the same state."""

    def __init__(self) -> None:
        self._root: _Node[Outcome] = _Node()

    def find(self, answer: Callable[[Question], Answer]) -> Outcome | None:
        """What came of the run that a machine answering like this would repeat, if any."""
        node: _Node[Outcome] | None = self._root
        while node is not None and node.question is not None:
            # A run is a deterministic program that asks questions: where it starts and what it was
            # answered so far decide what it asks next, and in the end what comes out. A machine
            # that gives, question by question, the answers of an earlier run must repeat it.
            node = node.branches.get(answer(node.question))
        return None if node is None else node.outcome

    def add(self, record: Mapping[Question, Answer], outcome: Outcome) -> None:
        """Keep a run: all it asked, in order, and what came out.

        Raises:
            DerivationError: After the same answers an earlier run asked something else, or went on.
        """
        node = self._root
        for question, answer in record.items():
            node.question = node.question or question
            # Then a run is no function of its answers: it saw something of the emulator.
            if node.question != question or node.outcome is not None:
                raise DerivationError(
                    "given the same answers again, the image asked something else"
                )
            node = node.branches.setdefault(answer, _Node())
        if node.question is not None or node.outcome is not None:
            raise DerivationError("given the same answers again, the image did something else")
        node.outcome = outcome

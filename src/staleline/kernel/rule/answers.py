# SPDX-License-Identifier: GPL-2.0-or-later
"""Find out whether a run would only repeat an earlier one.

A run is a deterministic program that asks questions: where it starts and what it was
answered so far decide what it asks next, and in the end what comes out. Runs from one start
therefore form a tree: each node is a question, each branch an answer, each leaf a result.
A machine that gives, question by question, the answers of an earlier run must repeat it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.traps import Answer, Question

__all__ = ["AnswerTree"]

Result = TypeVar("Result")


class _Node(Generic[Result]):
    """A question with the answers met so far, or a result."""

    __slots__ = ("branches", "question", "result")

    def __init__(self) -> None:
        self.question: Question | None = None
        self.branches: dict[Answer, _Node[Result]] = {}
        self.result: Result | None = None


class AnswerTree(Generic[Result]):
    """Results of runs that all began in the same state."""

    def __init__(self) -> None:
        self._root: _Node[Result] = _Node()

    def find(self, answer: Callable[[Question], Answer]) -> Result | None:
        """The result of the run that a machine answering like this would repeat, if any."""
        node: _Node[Result] | None = self._root
        while node is not None and node.question is not None:
            node = node.branches.get(answer(node.question))
        return None if node is None else node.result

    def add(self, record: Mapping[Question, Answer], result: Result) -> None:
        """Keep a run: all it asked, in order, and what came out.

        Raises:
            DerivationError: After the same answers an earlier run asked something else.
        """
        node = self._root
        for question, answer in record.items():
            node.question = node.question or question
            if node.question != question or node.result is not None:
                raise DerivationError(
                    "given the same answers again, the image asked something else"
                )
            node = node.branches.setdefault(answer, _Node())
        node.result = result

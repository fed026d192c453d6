# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that the program claims of one machine, as flat tables that can be compared.

A table maps what is asked, such as ``linux-6.5 any: on→off kexec``, to the value that is
claimed, or to None where the answer is unknown.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from staleline.errors import EvidenceError, KernelImageError, UsageError
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.snapshot import Snapshot
from staleline.facts import from_snapshot
from staleline.facts.fact import MachineFacts, Value
from staleline.kernel.reading.decided import image_opener
from staleline.verdict.audit.agreement import audit
from staleline.verdict.audit.audit import Audit, Handover
from staleline.verdict.audit.next_kernel import Next
from staleline.verdict.audit.old_kernel import choose_kernels
from staleline.verdict.handover.kernels import Kernel
from staleline.verdict.machines.possible import possible_machines
from staleline.vocabulary import Path, Verdict

__all__ = ["Answer", "Answers", "InternalError", "KernelOf", "Question", "answers", "named"]

#: The old kernel on a machine; raises like `choose_kernels`.
KernelOf = Callable[[Snapshot], Sequence[Kernel]]


class InternalError(AssertionError):
    """An exception that no user should see: neither a verdict nor a named contradiction."""


@dataclass(frozen=True)
class Question:
    """One audit: a kernel by name and the next kernels asked about."""

    kernel: str
    kernel_of: KernelOf = field(compare=False)
    following: Next = Next.ANY

    def __str__(self) -> str:
        return f"{self.kernel} {self.following}"


def named(policy: str, following: Next = Next.ANY) -> Question:
    """The question of a catalogue rule."""
    return Question(
        policy, lambda machine: choose_kernels(machine, policy, image_opener()), following
    )


@dataclass(frozen=True)
class Answer:
    """What was answered to one question, or to the question of the facts.

    Attributes:
        values: What is claimed, by what is asked; None is unknown.
        claims: What is claimed of a row or else not mentioned, such as an unneeded flush.
        contradictions: Ids of the contradictions for which there is no answer.
        refused: There is no answer for another reason.
    """

    values: Mapping[str, object] = field(default_factory=dict)
    claims: frozenset[tuple[str, str]] = frozenset()
    contradictions: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class Answers:
    """The answer that reading gives (the facts), and one for each question."""

    facts: Answer
    audits: Mapping[Question, Answer] = field(default_factory=dict)


def answers(read: Callable[[], Snapshot], questions: Sequence[Question]) -> Answers:
    """What the program says of the machine that `read` gives.

    Raises:
        InternalError: It says nothing that a user could use.
    """
    try:
        return _answers(read, questions)
    except Exception as error:
        raise InternalError("".join(traceback.format_exception(error)[-4:])) from error


def _answers(read: Callable[[], Snapshot], questions: Sequence[Question]) -> Answers:
    try:
        machine = read()
    except ContradictionError as error:
        return Answers(_contradicted(error))
    except EvidenceError as error:
        return Answers(Answer(refused=str(error)))
    facts = from_snapshot(machine)
    try:
        possible_machines(facts)
    except ContradictionError as error:
        return Answers(_contradicted(error))
    values: dict[str, Value] = {fact.name: fact.value for fact in facts}
    return Answers(
        Answer(values), {question: _answer(machine, facts, question) for question in questions}
    )


def _answer(machine: Snapshot, facts: MachineFacts, question: Question) -> Answer:
    try:
        kernels = question.kernel_of(machine)
        found = audit(facts, kernels, following=question.following, paths=tuple(Path))
    except ContradictionError as error:
        return _contradicted(error)
    except (UsageError, KernelImageError) as error:
        return Answer(refused=str(error))
    return Answer(dict(_values(found)), frozenset(_claims(found)))


def _contradicted(error: ContradictionError) -> Answer:
    assert error.ids, error
    # A field that nobody filled cannot be at odds with anything.
    assert " is None" not in error.what, error
    return Answer(contradictions=error.ids)


def _values(found: Audit) -> Iterator[tuple[str, object]]:
    yield "verdict", _definite(found.verdict)
    for path, verdict in found.by_path.items():
        yield f"verdict {path}", _definite(verdict)
    yield "sme_active", found.sme_active
    for row in found.handovers:
        name = _name(row)
        yield name, _definite(row.verdict)
        for site, flushes in row.flushes.items():
            yield f"{name} {site} flushes", flushes
        for site, needed in row.needed.items():
            yield f"{name} {site} needed", needed


def _claims(found: Audit) -> Iterator[tuple[str, str]]:
    for row in found.handovers:
        for site, reason in row.unneeded.items():
            yield _name(row), f"{site} unneeded"
            if "; or " not in reason:  # else one of several holds, and more evidence tells which
                yield _name(row), f"{site} unneeded: {reason}"
        for site in row.faults:
            yield _name(row), f"{site} faults"


def _name(row: Handover) -> str:
    return f"{row.transition} {row.path}"


def _definite(verdict: Verdict) -> Verdict | None:
    return None if verdict is Verdict.UNKNOWN else verdict

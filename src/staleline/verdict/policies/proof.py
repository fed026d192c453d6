# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy, proved for every number of CPUs: every handover, with its certificate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache

from staleline.check.answer import Answer, AnswerKind
from staleline.check.proof.certificate import Certificate, Recheck, certify, recheck
from staleline.check.proof.invariant import InvariantCheck, check_invariant, is_written_for
from staleline.errors import ModelError, UsageError
from staleline.model.scenario import Scenario
from staleline.verdict.handover.answers import answer_to
from staleline.verdict.handover.case import SECONDARIES
from staleline.verdict.handover.kernels import Kernel
from staleline.verdict.policies.platforms import Selection, handovers_of
from staleline.vocabulary import Path

__all__ = ["HandoverProof", "PolicyProof", "Question", "prove", "questions", "uncertified"]


@dataclass(frozen=True, slots=True)
class Question:
    """One handover of a policy on one platform class, put to the model.

    Attributes:
        platform: Name of the platform class.
        old: The old kernel encrypts its memory.
        next: The next one does.
        path: The path.
        sev_guests_run: The old kernel ran SEV guests.
        scenario: What the model is asked.
    """

    platform: str
    old: bool
    next: bool
    path: Path
    sev_guests_run: bool
    scenario: Scenario


@dataclass(frozen=True, slots=True)
class HandoverProof(Question):
    """A question with its answer.

    Attributes:
        answer: What the model answered.
        invariant: The check of the readable invariant; None if it was not asked for, or is
            not written for this kind of handover.
    """

    answer: Answer
    invariant: InvariantCheck | None


@dataclass(frozen=True, slots=True)
class PolicyProof:
    """A policy's handovers.

    Attributes:
        handovers: Each of them.
        certificate: The proofs of those that are proved; of no handover if none is.
        recheck: What z3 says of that certificate.
        accepted: Assumptions that it rests on, by their names in docs/model.md.
    """

    handovers: tuple[HandoverProof, ...]
    certificate: Certificate
    recheck: Recheck
    accepted: tuple[str, ...] = ()

    @property
    def answer(self) -> AnswerKind:
        """The worst of all answers."""
        given = {handover.answer.kind for handover in self.handovers}
        # Verified is for a number of CPUs, proved for any: the weaker word counts.
        worst_first = (AnswerKind.COUNTEREXAMPLE, AnswerKind.VERIFIED, AnswerKind.PROVED)
        return next(kind for kind in worst_first if kind in given)


def prove(kernel: Kernel, selection: Selection, *, readable: bool = False) -> PolicyProof:
    """Prove or refute every selected handover of a kernel.

    Args:
        kernel: A kernel whose rule is known on every machine.
        selection: Which handovers; at least one has to fit.
        readable: Check the readable invariant too, which says why.

    Raises:
        UsageError: No handover fits the selection.
        ModelError: A bound was hit, or z3 does not confirm a proof.
    """
    handovers = tuple(_answered(question, readable) for question in questions(kernel, selection))
    proved = [proof.scenario for proof in handovers if proof.answer.kind is AnswerKind.PROVED]
    certificate = certify(proved)
    # z3 knows nothing of views: that it agrees is what makes two engines of one. Where all is
    # refuted there is nothing to confirm, and a certificate of nothing would be refused.
    confirmed = recheck(certificate) if proved else Recheck(0, 0, (), ())
    if not confirmed.accepted:
        first = confirmed.failures[0]
        raise ModelError(
            f"z3 does not confirm what views prove: {first.obligation}",
            where=first.line,
            do="report this as a defect of staleline",
        )
    accepted = ("load_settled",) if selection.load_settled else ()
    return PolicyProof(handovers, certificate, confirmed, accepted)


def questions(kernel: Kernel, selection: Selection) -> tuple[Question, ...]:
    """The selected handovers of a kernel.

    Raises:
        UsageError: No handover fits the selection.
    """
    selected = tuple(_questions(kernel, selection))
    if not selected:
        raise UsageError("no handover fits the selection", do="select less narrowly")
    return selected


def uncertified(asked: tuple[Question, ...], certificate: Certificate) -> tuple[Question, ...]:
    """The handovers that a certificate, from wherever it comes, says nothing about."""
    certified = {_for_any_number(case.scenario) for case in certificate.cases}
    return tuple(
        question for question in asked if _for_any_number(question.scenario) not in certified
    )


def _questions(kernel: Kernel, selection: Selection) -> Iterator[Question]:
    for platform, case in handovers_of(kernel, selection):
        for scenario in case.scenarios():
            guests = case.machine.sev_guests_run
            old, new = case.old_encrypts, case.next_encrypts
            yield Question(platform, old, new, case.path, guests, scenario)


def _answered(question: Question, readable: bool) -> HandoverProof:
    asked = {field.name: getattr(question, field.name) for field in fields(question)}
    scenario = question.scenario
    outcome = _invariant(scenario) if readable and is_written_for(scenario) else None
    return HandoverProof(**asked, answer=answer_to(scenario), invariant=outcome)


# Many classes of platforms come to the same scenario.
@cache
def _invariant(scenario: Scenario) -> InvariantCheck:
    return check_invariant(scenario)


def _for_any_number(scenario: Scenario) -> Scenario:
    # A proof is for any number of CPUs: that of the scenario is not part of the question.
    return replace(scenario, secondaries=SECONDARIES)

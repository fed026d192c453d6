# SPDX-License-Identifier: GPL-2.0-or-later
"""Rounds: one machine each, drawn, thinned or retold, and where the answers break a principle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text, to_json
from staleline.evidence.snapshot import Snapshot
from staleline.policy.catalogue import catalogue
from staleline.verdict.audit.next_kernel import Next
from tests.properties.answers import Answers, InternalError, Question, answers, named
from tests.properties.comparing import disagreements, overclaims
from tests.properties.corpus import some_truth
from tests.properties.random_snapshots import some_snapshot
from tests.properties.removals import Piece, described, pieces, some_piece, without
from tests.properties.tellings import TELLINGS, Telling, some_telling
from tests.properties.text_removals import thinned

__all__ = ["ROUNDS", "Round", "Violation", "random_round", "retold_round", "thinned_round"]

#: How many pieces a machine loses, one after the other.
_LENGTHS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Violation:
    """One principle that is broken.

    Attributes:
        principle: ``less``, ``two`` or ``every``.
        what: The claims that are at odds.
        how: What was taken away, or the tellings.
        machine: The least machine that shows it, where one was looked for.
    """

    principle: str
    what: str
    how: str
    machine: str = ""

    def __str__(self) -> str:
        return f"[{self.principle}] {self.what}; {self.how}; {self.machine}"


@dataclass
class Round:
    """What came of one machine.

    Attributes:
        machines: How many were judged: the machine itself and each that was made of it.
        outcomes: How often an audit ended in what.
        violations: Where a principle is broken.
    """

    machines: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)

    def judged(
        self, read: Callable[[], Snapshot], questions: Sequence[Question], how: str
    ) -> Answers | None:
        """The answers; None, and a violation, where there is none."""
        self.machines += 1
        try:
            found = answers(read, questions)
        except InternalError as error:
            self.violations.append(Violation("every", str(error), how))
            return None
        self.outcomes.update(_outcomes(found))
        return found

    def add(self, principle: str, found: list[str], how: str, machine: str = "") -> None:
        """A violation, if anything was found."""
        if found:
            self.violations.append(Violation(principle, "; ".join(found[:3]), how, machine))


def _outcomes(found: Answers) -> list[str]:
    if found.facts.contradictions:
        return ["contradictory"]
    if found.facts.refused:
        return ["refused"]
    return [
        "contradictory"
        if answer.contradictions
        else "refused"
        if answer.refused
        else str(answer.values["verdict"] or "unknown")
        for answer in found.audits.values()
    ]


def some_questions(random: Random, images: Mapping[str, Question]) -> list[Question]:
    """Two catalogue rules, and one image now and then; any next kernel."""
    names = random.sample(sorted(catalogue()), 2)
    asked = [named(name, random.choice(list(Next))) for name in names]
    if images and random.random() < 0.4:
        image = images[random.choice(sorted(images))]
        asked.append(Question(image.kernel, image.kernel_of, random.choice(list(Next))))
    return asked


def thinned_round(random: Random, images: Mapping[str, Question]) -> Round:
    """A whole machine that loses one piece of evidence after the other."""
    questions = some_questions(random, images)
    return _thinned(some_truth(random).snapshot(), questions, random, random.choice(_LENGTHS))


def random_round(random: Random, images: Mapping[str, Question]) -> Round:
    """Any snapshot at all, which then loses one or two pieces.

    One with a word that its field cannot hold is no document of the format: its refusal names the
    field, and says nothing of a machine that less could claim more of.
    """
    questions = some_questions(random, images)
    return _thinned(some_snapshot(random), questions, random, random.choice((1, 2)))


def _thinned(
    machine: Snapshot, questions: Sequence[Question], random: Random, length: int
) -> Round:
    done = Round()
    more, full = machine, done.judged(_reading(machine), questions, "whole")
    for _ in range(length):
        piece = some_piece(more, random)
        if piece is None:
            break
        less = without(more, piece)
        found = done.judged(_reading(less), questions, f"without {described(piece)}")
        if full is None or found is None or full.facts.refused:
            pass
        elif found.facts.refused:
            done.add("less", [f"less is refused: {found.facts.refused}"], described(piece))
        elif wrong := overclaims(found, full):
            least = _least(more, piece, questions)
            done.add("less", wrong, f"without {described(piece)}", least)
        more, full = less, found
    return done


def retold_round(random: Random, images: Mapping[str, Question]) -> Round:
    """One machine told in four ways, each of which is then thinned twice."""
    questions = some_questions(random, images)
    truth = some_truth(random)
    done = Round()
    tellings = [TELLINGS[0](truth, random), *(some_telling(truth, random) for _ in range(3))]
    told = [(one, done.judged(one.read, questions, one.name)) for one in tellings]
    whole = told[0][1]
    for i, (one, found) in enumerate(told):
        for other, again in told[:i]:
            if found is not None and again is not None:
                wrong = disagreements(again, found, whole)
                done.add("two", wrong, f"{other.name} and {one.name}")
    for one, found in told[1:]:
        _thin_twice(one, found, questions, random, done)
    return done


def _thin_twice(
    telling: Telling,
    full: Answers | None,
    questions: Sequence[Question],
    random: Random,
    done: Round,
) -> None:
    more = telling
    for _ in range(2):
        what, less = thinned(more, random)
        if less == more:
            continue
        found = done.judged(less.read, questions, f"{telling.name} without {what}")
        if full is not None and found is not None:
            done.add("less", overclaims(found, full), f"{telling.name} without {what}")
        more, full = less, found


def _reading(machine: Snapshot) -> Callable[[], Snapshot]:
    text = snapshot_text(machine)
    return lambda: parse_snapshot(text, "snapshot")


def _least(more: Snapshot, piece: Piece, questions: Sequence[Question]) -> str:
    """The least machine of which taking `piece` still breaks the principle, as short JSON."""
    for other in pieces(more):
        smaller = without(more, other)
        if smaller != more and _overclaims(smaller, piece, questions):
            return _least(smaller, piece, questions)
    return _short(more)


def _overclaims(more: Snapshot, piece: Piece, questions: Sequence[Question]) -> bool:
    less = without(more, piece)
    if less == more:
        return False
    try:
        full, found = (answers(_reading(one), questions) for one in (more, less))
    except InternalError:
        return False
    return bool(overclaims(found, full))


def _short(machine: Snapshot) -> str:
    document = {name: _told(value) for name, value in to_json(machine).items() if _told(value)}
    return json.dumps(document)


def _told(value: object) -> object:
    """A value of a document without what is not observed."""
    if isinstance(value, dict):
        return {name: _told(inner) for name, inner in value.items() if inner is not None}
    return value


#: Each kind of round by the principle that it is for.
ROUNDS: Mapping[str, Callable[[Random, Mapping[str, Question]], Round]] = {
    "thinned": thinned_round,
    "retold": retold_round,
    "random": random_round,
}

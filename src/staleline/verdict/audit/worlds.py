# SPDX-License-Identifier: GPL-2.0-or-later
"""The worlds that fit the evidence: one fully known machine with one kernel each."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from staleline.facts import MachineFacts
from staleline.verdict.audit.next_kernel import Following
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.judgement import Judgement, judge
from staleline.verdict.handover.kernels import Behaviour, Kernel
from staleline.verdict.machines.machine import Machine
from staleline.verdict.machines.possible import Possibility, possible_machines
from staleline.vocabulary import WORST_FIRST, Path, Verdict

__all__ = ["NEXT_ENCRYPTS", "Key", "World", "worlds"]

#: A handover's row: (old kernel encrypts, next kernel encrypts, path).
Key = tuple[bool, bool, Path]

#: The name, in `World.assumed`, of what the next kernel does where its image does not tell.
NEXT_ENCRYPTS = "next_encrypts"


@dataclass(frozen=True, slots=True)
class World:
    """One fully known machine with one kernel, and its handovers."""

    kernel: str
    assumed: Mapping[str, bool | str]
    judgements: Mapping[Key, Judgement]

    @property
    def verdict(self) -> Verdict:
        """The worst of its handovers."""
        return _worst(self.judgements.values())

    def verdict_on(self, path: Path) -> Verdict:
        """The worst of its handovers on one path."""
        return _worst(judged for key, judged in self.judgements.items() if key[2] is path)


def worlds(
    facts: MachineFacts, kernels: Sequence[Kernel], following: Following, paths: Sequence[Path]
) -> Iterator[World]:
    """Every known machine that fits the facts, with each kernel, as its own world."""
    observed = facts.boolean("sme_active")
    judging = _Judging(paths)
    for possibility in possible_machines(facts):
        for kernel in kernels:
            for behaviour in _settled(kernel.behaviour(possibility.machine)):
                # What was seen of the running kernel rules out a rule that would do otherwise.
                if observed is None or behaviour.sme_active is observed:
                    yield from _next_worlds(possibility, kernel, behaviour, following, judging)


@dataclass(frozen=True, slots=True)
class _Judging:
    """Judges handovers on some paths, those that are alike in all that matters only once.

    Thousands of machines may fit the evidence, and most differ in nothing that matters here.
    """

    paths: Sequence[Path]
    _judged: dict[Hashable, Judgement] = field(default_factory=dict)

    def rows(
        self, machine: Machine, behaviour: Behaviour, uses: Sequence[bool]
    ) -> Mapping[Key, Judgement]:
        """The handovers to kernels with these uses of the C-bit."""
        cases = (
            Case(machine=machine, behaviour=behaviour, path=path, next_encrypts=encrypts)
            for encrypts in uses
            for path in self.paths
        )
        return {
            (case.old_encrypts, case.next_encrypts, case.path): self._judge(case) for case in cases
        }

    def _judge(self, case: Case) -> Judgement:
        circumstances = case.circumstances
        judged = self._judged.get(circumstances)
        if judged is None:
            judged = self._judged[circumstances] = judge(case)
        return judged


def _settled(behaviour: Behaviour) -> Iterable[Behaviour]:
    """Both ways where the image's own derivation of sme_active could not be run."""
    if behaviour.sme_active is not None:
        return (behaviour,)
    return tuple(replace(behaviour, sme_active=active) for active in (False, True))


def _next_worlds(
    possibility: Possibility,
    kernel: Kernel,
    behaviour: Behaviour,
    following: Following,
    judging: _Judging,
) -> Iterator[World]:
    """One world per way in which the next kernel may turn out."""
    machine = possibility.machine
    choices = following.choices(machine, bool(behaviour.sme_active))
    for uses in choices:
        assumed = {} if len(choices) == 1 else {NEXT_ENCRYPTS: any(uses)}
        rows = judging.rows(machine, behaviour, uses)
        yield World(kernel.name, {**possibility.assumed, **assumed}, rows)


def _worst(judgements: Iterable[Judgement]) -> Verdict:
    given = {judgement.verdict for judgement in judgements}
    return next(verdict for verdict in WORST_FIRST if verdict in given)

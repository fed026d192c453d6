# SPDX-License-Identifier: GPL-2.0-or-later
"""The worlds that fit the evidence: one fully known machine with one kernel, and its handovers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from staleline.facts import MachineFacts
from staleline.verdict.audit.next_kernel import Following
from staleline.verdict.handover.borrowing import KernelWithBorrowedMemory
from staleline.verdict.handover.case import Case
from staleline.verdict.handover.changed import ChangedKernel
from staleline.verdict.handover.judgement import Judgement, judged_once
from staleline.verdict.handover.kernels import Behaviour, Kernel, PolicyKernel
from staleline.verdict.machines.machine import Machine
from staleline.verdict.machines.possible import Possibility, possible_machines
from staleline.vocabulary import Path, Verdict, worst

__all__ = ["NEXT_ENCRYPTS", "JudgedHandovers", "Key", "World", "worlds"]

#: A handover's row: (old kernel encrypts, next kernel encrypts, path).
Key = tuple[bool, bool, Path]
#: The name, in `World.assumed`, of what the next kernel does where its image does not tell.
NEXT_ENCRYPTS = "next_encrypts"


@dataclass(frozen=True)
class JudgedHandovers:
    """The handovers of a world; worlds that differ in nothing that matters share theirs."""

    judgements: Mapping[Key, Judgement]

    @cached_property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return _worst(self.judgements.values())

    @cached_property
    def by_path(self) -> Mapping[Path, Verdict]:
        """The worst of each path."""
        return {
            path: _worst(judged for key, judged in self.judgements.items() if key[2] is path)
            for path in dict.fromkeys(key[2] for key in self.judgements)
        }


@dataclass(frozen=True, slots=True)
class World:
    """One fully known machine with one kernel, and its handovers."""

    kernel: str
    assumed: Mapping[str, bool | str]
    handovers: JudgedHandovers

    @property
    def judgements(self) -> Mapping[Key, Judgement]:
        """Of its handovers."""
        return self.handovers.judgements

    @property
    def verdict(self) -> Verdict:
        """The worst of its handovers."""
        return self.handovers.verdict

    def verdict_on(self, path: Path) -> Verdict:
        """The worst of its handovers on one path."""
        return self.handovers.by_path[path]


def worlds(
    facts: MachineFacts, kernels: Sequence[Kernel], following: Following, paths: Sequence[Path]
) -> Iterator[World]:
    """Every known machine that fits the facts, with each kernel, as its own world."""
    observed = facts.boolean("sme_active")
    by_kernel = [_kept(_Question(kernel, following, tuple(paths))) for kernel in kernels]
    for possibility in possible_machines(facts):
        for kernel in by_kernel:
            yield from kernel.worlds(possibility, observed)


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """What is asked of one kernel."""

    kernel: Kernel
    following: Following
    paths: tuple[Path, ...]

    @property
    def _about(self) -> tuple[Hashable, ...]:
        """All that decides."""
        return (*_same(self.kernel), id(self.following), self.paths)

    def __eq__(self, other: object) -> bool:
        """The same of the same rule, or image."""
        return isinstance(other, _Question) and other._about == self._about

    def __hash__(self) -> int:
        return hash(self._about)


def _same(kernel: Kernel) -> tuple[Hashable, ...]:
    """By identity, as kernels hold mappings, and images; not of what is put round one anew."""
    match kernel:
        case PolicyKernel():
            return (id(kernel.policy), kernel.release)
        case KernelWithBorrowedMemory():
            return (*_same(kernel.kernel), "borrows", kernel.missing)
        case ChangedKernel():
            return (*_same(kernel.kernel), "changed", kernel.change)
    return (id(kernel),)


class _JudgedKernel:
    """The handovers of one kernel, those that are alike in all that matters judged only once.

    Thousands of machines may fit the evidence, and most differ in nothing that matters here; nor
    do most machines of a fleet.
    """

    def __init__(self, question: _Question) -> None:
        self._kernel, self._paths = question.kernel, question.paths
        self._following = question.following
        self._behaviours: dict[Hashable, tuple[Behaviour, ...]] = {}
        self._different: list[Behaviour] = []
        self._rows: dict[Hashable, JudgedHandovers] = {}

    def worlds(self, possibility: Possibility, observed: bool | None) -> Iterator[World]:
        """Those in which the kernel encrypts as it was observed to."""
        machine = possibility.machine
        seen, circumstances = machine.seen, machine.circumstances
        if seen not in self._behaviours:
            settled = _settled(self._kernel.behaviour(machine))
            self._behaviours[seen] = tuple(map(self._shared, settled))
        for behaviour in self._behaviours[seen]:
            # What was seen of the running kernel rules out a rule that would do otherwise.
            if observed is not None and behaviour.sme_active is not observed:
                continue
            choices = self._following.choices(machine, bool(behaviour.sme_active))
            # One world per way in which the next kernel may turn out.
            for uses in choices:
                alike = id(behaviour), circumstances, uses
                if alike not in self._rows:
                    self._rows[alike] = self._judge_all(machine, behaviour, uses)
                assumed = possibility.assumed
                if len(choices) > 1:
                    assumed = {**assumed, NEXT_ENCRYPTS: any(uses)}
                yield World(self._kernel.name, assumed, self._rows[alike])

    def _shared(self, behaviour: Behaviour) -> Behaviour:
        """The first one that is equal to it, in what depends on offline CPUs too."""
        for other in self._different:
            if other == behaviour and other.offline == behaviour.offline:
                return other
        self._different.append(behaviour)
        return behaviour

    def _judge_all(
        self, machine: Machine, behaviour: Behaviour, uses: Sequence[bool]
    ) -> JudgedHandovers:
        """The handovers to kernels with these uses of the C-bit."""
        cases = (
            Case(machine=machine, behaviour=behaviour, path=path, next_encrypts=encrypts)
            for encrypts in uses
            for path in self._paths
        )
        return JudgedHandovers(
            {
                (case.old_encrypts, case.next_encrypts, case.path): judged_once(case)
                for case in cases
            }
        )


#: A fleet's kernels are judged on one class of its machines after the other.
_kept = lru_cache(64)(_JudgedKernel)


def _settled(behaviour: Behaviour) -> tuple[Behaviour, ...]:
    """Both ways where the image's own derivation of sme_active could not be run."""
    if behaviour.sme_active is not None:
        return (behaviour,)
    return tuple(replace(behaviour, sme_active=active) for active in (False, True))


def _worst(judgements: Iterable[Judgement]) -> Verdict:
    given = {judgement.verdict for judgement in judgements}
    return worst(given)

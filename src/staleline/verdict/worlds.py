# SPDX-License-Identifier: GPL-2.0-or-later
"""The worlds that fit the evidence: one fully known machine with one kernel each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from staleline.facts import MachineFacts
from staleline.verdict.case import Case
from staleline.verdict.handover import Judgement, judge
from staleline.verdict.kernels import Behaviour, Kernel
from staleline.verdict.machine import Machine, Possibility, possible_machines
from staleline.vocabulary import Path, Verdict

__all__ = ["Key", "Next", "World", "worlds"]

#: A handover's row: (old kernel encrypts, next kernel encrypts, path).
Key = tuple[bool, bool, Path]

_WORST_FIRST = (Verdict.AT_RISK, Verdict.UNKNOWN, Verdict.SAFE)


class Next(StrEnum):
    """Which next kernels are asked about: by their use of memory encryption."""

    ON = "on"
    OFF = "off"
    SAME = "same"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class World:
    """One fully known machine with one kernel, and its handovers."""

    kernel: str
    assumed: Mapping[str, bool]
    judgements: Mapping[Key, Judgement]

    @property
    def verdict(self) -> Verdict:
        """The worst of its handovers."""
        return _worst(self.judgements.values())

    def verdict_on(self, path: Path) -> Verdict:
        """The worst of its handovers on one path."""
        return _worst(one for key, one in self.judgements.items() if key[2] is path)


def worlds(
    facts: MachineFacts, kernels: Sequence[Kernel], following: Next, paths: Sequence[Path]
) -> Iterator[World]:
    """Every known machine that fits the facts, with each kernel, as its own world."""
    observed = facts.boolean("sme_active")
    for possibility in possible_machines(facts):
        for kernel in kernels:
            for behaviour in _settled(kernel.behaviour(possibility.machine)):
                if observed is None or behaviour.sme_active is observed:
                    yield _one_world(possibility, kernel, behaviour, following, paths)


def _settled(behaviour: Behaviour) -> Iterable[Behaviour]:
    """Both ways where the image's own derivation of sme_active could not be run."""
    if behaviour.sme_active is not None:
        return (behaviour,)
    return tuple(replace(behaviour, sme_active=active) for active in (False, True))


def _one_world(
    possibility: Possibility,
    kernel: Kernel,
    behaviour: Behaviour,
    following: Next,
    paths: Sequence[Path],
) -> World:
    machine = possibility.machine
    cases = (
        Case(machine=machine, behaviour=behaviour, path=path, next_encrypts=following_encrypts)
        for following_encrypts in _next_states(machine, bool(behaviour.sme_active), following)
        for path in paths
    )
    judgements = {(case.old_encrypts, case.next_encrypts, case.path): judge(case) for case in cases}
    return World(kernel.name, possibility.assumed, judgements)


def _next_states(machine: Machine, old: bool, following: Next) -> tuple[bool, ...]:
    """The next kernel's possible uses of the C-bit; it cannot use what is not there."""
    if not machine.can_encrypt:
        return (False,)
    match following:
        case Next.SAME:
            return (old,)
        case Next.ANY:
            return (False, True)
        case _:
            return (following is Next.ON,)


def _worst(judgements: Iterable[Judgement]) -> Verdict:
    found = {judgement.verdict for judgement in judgements}
    return next(verdict for verdict in _WORST_FIRST if verdict in found)

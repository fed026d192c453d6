# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts, a kernel and the transitions asked for, put together into one verdict.

Whatever the evidence leaves open is tried both ways: each way is a *world*, one fully
known machine with one kernel. A handover's verdict is what all worlds that contain it
agree on; where they do not agree, the verdict is unknown and names the facts that split
them. The overall verdict is the worst handover of each world, if the worlds agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from staleline.check import Answer
from staleline.errors import EvidenceError
from staleline.facts import MachineFacts
from staleline.verdict.handover import Judgement, judge
from staleline.verdict.kernels import Behaviour, Kernel
from staleline.verdict.machine import Machine, Possibility, possible_machines
from staleline.vocabulary import Path, Site, Verdict

__all__ = ["Audit", "Handover", "Next", "audit"]

#: Machine fields whose fact goes by another name.
_FACT_NAMES = {
    "sme_supported": "sme",
    "sev_supported": "sev",
    "sme_bit_unchecked": "unchecked_sme_bit",
    "snp_host": "snp_enabled",
    "tdx_host_enabled": "tdx_keyids",
    "tdx_used": "tdx_module",
}


_WORST_FIRST = (Verdict.AT_RISK, Verdict.UNKNOWN, Verdict.SAFE)


class Next(StrEnum):
    """Which next kernels are asked about: by their use of memory encryption."""

    ON = "on"
    OFF = "off"
    SAME = "same"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Handover:
    """One row of an audit: a transition and path, over all worlds that contain it.

    Sites map to None where the worlds differ or the reading stopped.
    """

    old: bool
    next: bool
    path: Path
    verdict: Verdict
    because: str
    flushes: Mapping[Site, bool | None]
    needed: Mapping[Site, bool | None]
    unneeded: Mapping[Site, str]
    faults: tuple[Site, ...]
    unknown: tuple[str, ...]
    answer: Answer | None

    @property
    def transition(self) -> str:
        """For instance ``on→off``."""
        return f"{_word(self.old)}→{_word(self.next)}"


@dataclass(frozen=True, slots=True)
class Audit:
    """The finished document; renderers add nothing to it."""

    verdict: Verdict
    by_path: Mapping[Path, Verdict]
    kernel: str
    kernel_evidence: str
    facts: MachineFacts
    given: tuple[str, ...]
    handovers: tuple[Handover, ...]
    unknown: tuple[str, ...]

    @property
    def sme_active(self) -> bool | None:
        """Does the old kernel encrypt its memory, as its rule or code derives it?"""
        return _same(row.old for row in self.handovers)

    def broken(self, path: Path) -> tuple[str, ...]:
        """Names of the properties that counterexamples on a path break, P1 first."""
        rows = [row for row in self.handovers if row.path is path]
        found = {row.answer.property for row in rows if row.answer is not None}
        return tuple(sorted(name for name in found if name is not None))


@dataclass(frozen=True, slots=True)
class _World:
    """One fully known machine with one kernel, and its handovers."""

    kernel: str
    assumed: Mapping[str, bool]
    judgements: Mapping[tuple[bool, bool, Path], Judgement]

    @property
    def verdict(self) -> Verdict:
        """The worst of its handovers."""
        return _worst(self.judgements.values())

    def verdict_on(self, path: Path) -> Verdict:
        """The worst of its handovers on one path."""
        return _worst(one for key, one in self.judgements.items() if key[2] is path)


def audit(
    facts: MachineFacts,
    kernels: Sequence[Kernel],
    *,
    following: Next,
    paths: Sequence[Path],
    given: Sequence[str] = (),
) -> Audit:
    """Judge every handover that was asked for.

    Args:
        facts: What is known of the machine.
        kernels: The old kernel; several where a release number leaves a choice.
        following: Which next kernels are asked about.
        paths: Which paths are asked about.
        given: Names of facts that the user gave and nobody observed.

    Raises:
        EvidenceError: No machine fits the evidence: it contradicts itself.
    """
    worlds = list(_worlds(facts, kernels, following, paths))
    if not worlds:
        raise EvidenceError(
            f"the evidence contradicts itself: sme_active is {facts.boolean('sme_active')}, but "
            "this kernel with these registers and command line would not have it so",
            do="collect the snapshot anew on the running host",
        )
    verdict = _agreed({world.verdict for world in worlds})
    return Audit(
        verdict=verdict,
        by_path={path: _agreed({world.verdict_on(path) for world in worlds}) for path in paths},
        kernel=" or ".join(dict.fromkeys(kernel.name for kernel in kernels)),
        kernel_evidence=kernels[0].evidence,
        facts=facts,
        given=tuple(given),
        handovers=tuple(_handovers(facts, worlds)),
        unknown=() if verdict is not Verdict.UNKNOWN else _missing(facts, worlds, None),
    )


def _worlds(
    facts: MachineFacts, kernels: Sequence[Kernel], following: Next, paths: Sequence[Path]
) -> Iterator[_World]:
    observed = facts.boolean("sme_active")
    for possibility in possible_machines(facts):
        for kernel in kernels:
            for behaviour in _settled(kernel.behaviour(possibility.machine)):
                if observed is None or behaviour.sme_active is observed:
                    yield _world(possibility, kernel, behaviour, following, paths)


def _settled(behaviour: Behaviour) -> Iterable[Behaviour]:
    """Both ways where the image's own derivation of sme_active could not be run."""
    if behaviour.sme_active is not None:
        return (behaviour,)
    return tuple(replace(behaviour, sme_active=active) for active in (False, True))


def _world(
    possibility: Possibility,
    kernel: Kernel,
    behaviour: Behaviour,
    following: Next,
    paths: Sequence[Path],
) -> _World:
    machine = possibility.machine
    old = bool(behaviour.sme_active)
    judgements = {
        (old, new, path): judge(machine, behaviour, path=path, next_encrypts=new)
        for new in _next_states(machine, old, following)
        for path in paths
    }
    return _World(kernel.name, possibility.assumed, judgements)


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


def _agreed(verdicts: set[Verdict]) -> Verdict:
    return verdicts.pop() if len(verdicts) == 1 else Verdict.UNKNOWN


def _handovers(facts: MachineFacts, worlds: Sequence[_World]) -> Iterator[Handover]:
    keys = sorted({key for world in worlds for key in world.judgements}, key=_row_order)
    for key in keys:
        containing = [world for world in worlds if key in world.judgements]
        yield _row(facts, key, containing)


def _row_order(key: tuple[bool, bool, Path]) -> tuple[int, bool, bool]:
    old, new, path = key
    return (list(Path).index(path), not old, not new)


def _row(facts: MachineFacts, key: tuple[bool, bool, Path], worlds: Sequence[_World]) -> Handover:
    old, new, path = key
    judgements = [world.judgements[key] for world in worlds]
    verdict = _agreed({judgement.verdict for judgement in judgements})
    first = judgements[0]
    sites = tuple(first.flushes)
    return Handover(
        old=old,
        next=new,
        path=path,
        verdict=verdict,
        because="; or ".join(dict.fromkeys(one.because for one in judgements))
        if verdict is Verdict.SAFE
        else "",
        flushes={
            site: _same(judgement.flushes[site] for judgement in judgements) for site in sites
        },
        needed={site: _same(judgement.needed[site] for judgement in judgements) for site in sites},
        unneeded={
            site: reason
            for site, reason in first.unneeded.items()
            if all(site in judgement.unneeded for judgement in judgements)
        },
        faults=tuple(
            site
            for site in first.faults
            if all(site in judgement.faults for judgement in judgements)
        ),
        unknown=() if verdict is not Verdict.UNKNOWN else _missing(facts, worlds, key),
        answer=first.answer if verdict is not Verdict.UNKNOWN else None,
    )


def _same(values: Iterable[bool | None]) -> bool | None:
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _missing(
    facts: MachineFacts, worlds: Sequence[_World], key: tuple[bool, bool, Path] | None
) -> tuple[str, ...]:
    """What to find out: facts that split the worlds, and what could not be read in any."""
    reasons: list[str] = []
    for name in dict.fromkeys(name for world in worlds for name in world.assumed):
        if _splits(name, worlds, key):
            reasons.append(_how_to_get(facts, name))
    kernels = dict.fromkeys(world.kernel for world in worlds)
    if len(kernels) > 1 and _kernels_differ(worlds, key):
        reasons.append(f"the rule: {' or '.join(kernels)}; give the image to --kernel to read it")
    for world in worlds:
        for judged, judgement in world.judgements.items():
            if key in (None, judged):
                reasons.extend(judgement.unknown)
    return tuple(dict.fromkeys(reasons)) or ("the evidence leaves several machines possible",)


def _splits(name: str, worlds: Sequence[_World], key: tuple[bool, bool, Path] | None) -> bool:
    by_value = [
        {_verdict_of(world, key) for world in worlds if world.assumed.get(name) is value}
        for value in (False, True)
    ]
    return all(by_value) and by_value[0] != by_value[1]


def _kernels_differ(worlds: Sequence[_World], key: tuple[bool, bool, Path] | None) -> bool:
    found: dict[str, set[Verdict]] = {}
    for world in worlds:
        found.setdefault(world.kernel, set()).add(_verdict_of(world, key))
    return len({frozenset(verdicts) for verdicts in found.values()}) > 1


def _verdict_of(world: _World, key: tuple[bool, bool, Path] | None) -> Verdict:
    return world.verdict if key is None else world.judgements[key].verdict


def _how_to_get(facts: MachineFacts, name: str) -> str:
    fact = facts[_FACT_NAMES.get(name, name)]
    return fact.missing or f"{fact.name} is not known"


def _word(encrypts: bool) -> str:
    return "on" if encrypts else "off"

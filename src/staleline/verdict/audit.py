# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts, a kernel and the transitions asked for, put together into one verdict.

Whatever the evidence leaves open is tried both ways: each way is a *world*, one fully
known machine with one kernel. A handover's verdict is what all worlds that contain it
agree on; where they do not agree, the verdict is unknown and names the facts that split
them. The overall verdict is the worst handover of each world, if the worlds agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from staleline.check import Answer
from staleline.evidence.consistency import against_kernel, raise_if_any
from staleline.facts import MachineFacts
from staleline.model.scenario import Scenario
from staleline.verdict.following import Following, Next
from staleline.verdict.kernels import Kernel
from staleline.verdict.missing import missing
from staleline.verdict.reasons import Unneeded
from staleline.verdict.unknown import Unknown
from staleline.verdict.worlds import Key, World, worlds
from staleline.vocabulary import Path, Site, Verdict

__all__ = ["Audit", "Handover", "Next", "audit"]

_T = TypeVar("_T")

_SEVERAL_MACHINES = Unknown("the evidence leaves several machines possible", "unknown-machine")


@dataclass(frozen=True, slots=True)
class Handover:
    """One row of an audit: a transition and path, over all worlds that contain it.

    Sites map to None where the worlds differ or the reading stopped. The model checker was
    asked about each of the scenarios.
    """

    old: bool
    next: bool
    path: Path
    verdict: Verdict
    because: str
    flushes: Mapping[Site, bool | None]
    needed: Mapping[Site, bool | None]
    attainable: bool
    unneeded: Mapping[Site, Unneeded]
    faults: tuple[Site, ...]
    unknown: tuple[Unknown, ...]
    answer: Answer | None
    scenarios: tuple[Scenario, ...]

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
    unknown: tuple[Unknown, ...]

    @property
    def sme_active(self) -> bool | None:
        """Does the old kernel encrypt its memory, as its rule or code derives it?"""
        return _same(row.old for row in self.handovers)

    def broken(self, path: Path) -> tuple[str, ...]:
        """Names of the properties that counterexamples on a path break, P1 first."""
        rows = [row for row in self.handovers if row.path is path]
        found = {row.answer.property for row in rows if row.answer is not None}
        return tuple(sorted(name for name in found if name is not None))


def audit(
    facts: MachineFacts,
    kernels: Sequence[Kernel],
    *,
    following: Following,
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
        ContradictionError: No machine fits the evidence.
    """
    fitting = tuple(worlds(facts, kernels, following, paths))
    if not fitting:
        raise_if_any((against_kernel(facts.boolean("sme_active")),), None)
    verdict = _agreed(world.verdict for world in fitting)
    return Audit(
        verdict=verdict,
        by_path={path: _agreed(world.verdict_on(path) for world in fitting) for path in paths},
        kernel=" or ".join(dict.fromkeys(kernel.name for kernel in kernels)),
        kernel_evidence=kernels[0].evidence,
        facts=facts,
        given=tuple(given),
        handovers=tuple(_handovers(facts, fitting)),
        unknown=_unsettled(facts, fitting) if verdict is Verdict.UNKNOWN else (),
    )


def _agreed(verdicts: Iterable[Verdict]) -> Verdict:
    return _same(verdicts) or Verdict.UNKNOWN


def _same(values: Iterable[_T]) -> _T | None:
    """The value that all share, or None."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _handovers(facts: MachineFacts, fitting: Sequence[World]) -> Iterator[Handover]:
    for key in sorted({key for world in fitting for key in world.judgements}, key=_row_order):
        yield _row(facts, key, [world for world in fitting if key in world.judgements])


def _row_order(key: Key) -> tuple[int, bool, bool]:
    old, new, path = key
    return (list(Path).index(path), not old, not new)


def _row(facts: MachineFacts, key: Key, containing: Sequence[World]) -> Handover:
    """What all worlds that contain a handover agree on."""
    judgements = [world.judgements[key] for world in containing]
    first = judgements[0]
    verdict = _agreed(one.verdict for one in judgements)
    reasons = dict.fromkeys(one.because for one in judgements) if verdict is Verdict.SAFE else ()
    return Handover(
        old=key[0],
        next=key[1],
        path=key[2],
        verdict=verdict,
        because="; or ".join(reasons),
        flushes={site: _same(one.flushes[site] for one in judgements) for site in first.flushes},
        needed={site: _same(one.needed[site] for one in judgements) for site in first.needed},
        attainable=any(one.attainable for one in judgements),
        # Two worlds may differ in the reason; one of them is then no reason in the other.
        unneeded={
            site: reason
            for site, reason in first.unneeded.items()
            if all(one.unneeded.get(site) == reason for one in judgements)
        },
        faults=tuple(site for site in first.faults if all(site in o.faults for o in judgements)),
        unknown=tuple(dict.fromkeys(_unsettled_in_row(facts, key, containing, verdict))),
        answer=first.answer if verdict is not Verdict.UNKNOWN else None,
        scenarios=tuple(dict.fromkeys(s for one in judgements for s in one.case.scenarios())),
    )


def _unsettled(facts: MachineFacts, fitting: Sequence[World]) -> tuple[Unknown, ...]:
    """Why the overall verdict is unknown."""
    reasons = [
        *missing(facts, fitting, lambda world: world.verdict),
        *(
            reason
            for world in fitting
            for one in world.judgements.values()
            for reason in one.unknown
        ),
    ]
    return tuple(dict.fromkeys(reasons)) or (_SEVERAL_MACHINES,)


def _unsettled_in_row(
    facts: MachineFacts, key: Key, containing: Sequence[World], verdict: Verdict
) -> Iterator[Unknown]:
    """Why the row's verdict is unknown, and whether a WBINVD that may fault does."""
    if verdict is Verdict.UNKNOWN:
        yield from missing(facts, containing, lambda world: world.judgements[key].verdict)
        yield from (reason for world in containing for reason in world.judgements[key].unknown)
    if verdict is Verdict.AT_RISK:
        for reason in missing(facts, containing, lambda world: world.judgements[key].broken):
            yield Unknown(f"in which of several ways it breaks: {reason}", reason.id)
    for reason in missing(facts, containing, lambda world: world.judgements[key].faults):
        yield Unknown(f"whether WBINVD traps here: {reason}", reason.id)


def _word(encrypts: bool) -> str:
    return "on" if encrypts else "off"

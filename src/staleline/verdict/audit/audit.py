# SPDX-License-Identifier: GPL-2.0-or-later
"""The document of one audit: what is said of a machine with a kernel, handover by handover."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from staleline.check.answer import Answer
from staleline.facts import MachineFacts
from staleline.kernel.boot.decision import Store
from staleline.model.scenario import Scenario
from staleline.verdict.audit.identity import NOT_COMPARED, Identity
from staleline.verdict.handover.judgement import Judgement
from staleline.verdict.handover.reasons import Unneeded, UnneededEither
from staleline.verdict.handover.unknown import Unknown
from staleline.vocabulary import Path, Site, Verdict, state_word

__all__ = ["Audit", "Handover"]


@dataclass(frozen=True, slots=True)
class Handover:
    """One row of an audit: a transition and path, over all worlds that contain it.

    Sites map to None where the worlds differ or the reading stopped. The model checker was
    asked about each of the scenarios, unless something decides that is not in the model
    (``is_modelled``). ``may_fault`` tells what leaves open whether WBINVD traps. ``shown`` is the
    judgement whose answer stands for all worlds; None where the verdict is unknown.
    """

    old: bool
    next: bool
    path: Path
    verdict: Verdict
    because: str
    flushes: Mapping[Site, bool | None]
    needed: Mapping[Site, bool | None]
    attainable: bool
    unneeded: Mapping[Site, Unneeded | UnneededEither]
    faults: tuple[Site, ...]
    left_behind: Mapping[Site, tuple[Store, ...]]
    unknown: tuple[Unknown, ...]
    shown: Judgement | None
    scenarios: tuple[Scenario, ...]
    may_fault: tuple[Unknown, ...] = ()
    is_modelled: bool = True

    @property
    def answer(self) -> Answer | None:
        """The model checker's, worked out only where it is looked at."""
        return None if self.shown is None else self.shown.answer

    @property
    def broken(self) -> str | None:
        """The property that its counterexample breaks, for an at-risk verdict."""
        return None if self.shown is None else self.shown.broken

    @property
    def transition(self) -> str:
        """For instance ``on→off``."""
        return f"{state_word(self.old)}→{state_word(self.next)}"


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
    identity: Identity = NOT_COMPARED

    @property
    def sme_active(self) -> bool | None:
        """Does the old kernel encrypt its memory, as its rule or code derives it?"""
        different = {row.old for row in self.handovers}
        if self.facts["unread_messages"].value or len(different) != 1:
            return None
        return different.pop()

    def broken(self, path: Path) -> tuple[str, ...]:
        """Names of the properties that counterexamples on a path break, P1 first."""
        broken = {row.broken for row in self.handovers if row.path is path}
        return tuple(sorted(name for name in broken if name is not None))

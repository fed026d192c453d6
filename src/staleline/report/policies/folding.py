# SPDX-License-Identifier: GPL-2.0-or-later
"""The handovers of a rule in few rows: those that are alike together, the worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from staleline.check.runs.trace import Counterexample
from staleline.report.formats.findings import unflushed, violation_id
from staleline.report.words.explanations import explanations
from staleline.report.words.words import Transition, required_words, state_word
from staleline.verdict.policies.platforms import PlatformHandover
from staleline.vocabulary import WORST_FIRST, Path, Site, Verdict

__all__ = [
    "FoldedRow",
    "Reason",
    "counted",
    "executed_words",
    "folded",
    "where_words",
    "why_not_safe",
]

_GUESTS = "SEV guests"


@dataclass(frozen=True, slots=True)
class FoldedRow:
    """Handovers of which everything that is shown is the same but for transition and platform.

    Attributes:
        verdict: Theirs.
        path: Theirs.
        executed: Who executes WBINVD.
        required: Who has to.
        transitions: For instance ``off→on, on→on, with or without SEV guests``.
        platforms: Names of platform classes.
    """

    verdict: Verdict
    path: Path
    executed: str
    required: str
    transitions: str
    platforms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some handovers are not safe, the same for all of them.

    Attributes:
        verdict: At risk, or unknown.
        path: The path.
        id: Of the explanation; empty where it is unknown.
        words: The reason as a clause.
        rows: The handovers.
    """

    verdict: Verdict
    path: Path
    id: str
    words: str
    rows: tuple[PlatformHandover, ...]

    @property
    def shortest(self) -> tuple[PlatformHandover, Counterexample] | None:
        """The handover with the shortest counterexample, which stands for the others."""
        told = [(row, run) for row in self.rows if (run := row.judgement.counterexample)]
        return min(told, key=lambda one: len(one[1].steps), default=None)


def counted(rows: Sequence[PlatformHandover]) -> dict[Verdict, int]:
    """How many handovers have each verdict, the worst first; all three are there."""
    verdicts = [row.judgement.verdict for row in rows]
    return {verdict: verdicts.count(verdict) for verdict in WORST_FIRST}


def folded(rows: Iterable[PlatformHandover]) -> list[FoldedRow]:
    """The worst first; else in the order of the platforms."""
    alike: dict[tuple[Verdict, Path, str, str], list[PlatformHandover]] = {}
    for row in rows:
        judgement = row.judgement
        site = row.path.secondaries_site
        required = required_words(judgement.needed, site, attainable=judgement.attainable)
        key = (judgement.verdict, row.path, executed_words(row), required)
        alike.setdefault(key, []).append(row)
    folded_rows = [
        FoldedRow(*key, transitions, platforms)
        for key, several in alike.items()
        for transitions, platforms in _by_platforms(several)
    ]
    return sorted(folded_rows, key=lambda row: WORST_FIRST.index(row.verdict))


def why_not_safe(rows: Iterable[PlatformHandover]) -> list[Reason]:
    """Why handovers are not safe, the worst first; each handover counts once."""
    alike: dict[tuple[Verdict, Path, str, str], list[PlatformHandover]] = {}
    for row in rows:
        if row.judgement.verdict is not Verdict.SAFE:
            alike.setdefault((row.judgement.verdict, row.path, *_why(row)), []).append(row)
    found = [Reason(*key, tuple(several)) for key, several in alike.items()]
    return sorted(found, key=lambda one: (WORST_FIRST.index(one.verdict), -len(one.rows)))


def executed_words(row: PlatformHandover) -> str:
    """Who executes WBINVD: the same words as for who has to."""
    flushes = row.judgement.flushes
    # Of one site nothing is known: to name the other alone would say that this one does not flush.
    if None in flushes.values():
        return "unknown"
    names = {row.path.secondaries_site: "secondaries", Site.RELOCATE_KERNEL: "jumping CPU"}
    who = [name for site, name in names.items() if flushes[site]]
    words = {0: "none", 2: "both"}.get(len(who)) or who[0]
    return f"{words}, faults" if row.judgement.faults else words


class _Placed(Transition, Protocol):
    """What a judged and a proved handover have in common."""

    @property
    def platform(self) -> str: ...
    @property
    def path(self) -> Path: ...


def place_fields(row: _Placed) -> dict[str, Any]:
    """Which handover a row of a document is of."""
    return {
        "platform": row.platform,
        "old": state_word(row.old),
        "next": state_word(row.next),
        "path": row.path,
        "sev_guests_run": row.sev_guests_run,
    }


def where_words(rows: Iterable[_Placed]) -> str:
    """For instance ``off→on, on→on on amd-sme-incoherent, hygon-sme-incoherent``."""
    parts = _by_platforms(list(rows))
    return "; ".join(f"{moves} on {', '.join(platforms)}" for moves, platforms in parts)


def _why(row: PlatformHandover) -> tuple[str, str]:
    """The id of the reason, and the reason."""
    judgement = row.judgement
    run = judgement.counterexample
    if run is None:
        return "", "; ".join(judgement.unknown)
    name = violation_id(run)
    missing = unflushed(judgement)
    title = explanations()[name].title
    return name, f"{title}; no WBINVD in {' and '.join(missing)}" if missing else title


def _by_platforms(rows: Sequence[_Placed]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Transitions, with the platforms that have just these."""
    by_platform: dict[str, list[_Placed]] = {}
    for row in rows:
        by_platform.setdefault(row.platform, []).append(row)
    platforms: dict[str, list[str]] = {}
    for platform, several in by_platform.items():
        platforms.setdefault(_transitions(several), []).append(platform)
    for transitions, names in platforms.items():
        yield transitions, tuple(names)


def _transitions(rows: Sequence[_Placed]) -> str:
    """All of them; what SEV guests change nothing of is said once."""
    without, guests = (
        list(dict.fromkeys(_arrow(row) for row in rows if row.sev_guests_run is run))
        for run in (False, True)
    )
    if without == guests:
        return f"{', '.join(without)}, with or without {_GUESTS}"
    with_guests = f"{', '.join(guests)} with {_GUESTS}" if guests else ""
    return "; ".join(filter(None, (", ".join(without), with_guests)))


def _arrow(row: _Placed) -> str:
    return f"{state_word(row.old)}→{state_word(row.next)}"

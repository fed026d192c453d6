# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a rule could not be established, and on which machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.rule.grid import Bits, Grid
from staleline.policy.minimise import minimise

__all__ = ["reasons"]

_SHOWN = 4
_READABLE = 200


def reasons(
    grid: Grid, facts: Sequence[RawFacts], decisions: Sequence[SiteDecision], cells: Bits
) -> tuple[str, ...]:
    """One sentence per cause, the first few of them.

    Args:
        grid: Where the rows lie.
        facts: Per row, its combination.
        decisions: Per row, what a site did.
        cells: The undecided cells, all of them such as a machine can have.
    """
    causes = [
        (cause, concerned & cells)
        for cause, concerned in _causes(grid, facts, decisions)
        if (concerned & cells).any()
    ]
    told = [f"{_machines(grid, concerned)}: {cause}" for cause, concerned in causes[:_SHOWN]]
    more = len(causes) - _SHOWN
    return (*told, *([f"{more} more reasons like these"] if more > 0 else []))


def _causes(
    grid: Grid, facts: Sequence[RawFacts], decisions: Sequence[SiteDecision]
) -> Iterator[tuple[str, Bits]]:
    run = grid.cells([True] * len(decisions))
    yield "no run with these facts", ~run
    without_end = [decision.flushes is None for decision in decisions]
    texts = [decision.unknown or "no reason is given" for decision in decisions]
    for text in dict.fromkeys(compress(texts, without_end)):
        yield text, grid.cells([a and b == text for a, b in zip(without_end, texts, strict=True)])
    # What is left ran to its end in every row, so rows of one cell must have come out differently.
    split = run & ~grid.cells(without_end) & grid.possible
    outcomes = zip(facts, (decision.flushes for decision in decisions), strict=True)
    outcome = dict(compress(outcomes, split[grid.places]))
    yield f"depends on more than the facts: {_unnamed(outcome)}", split


def _unnamed(outcome: Mapping[RawFacts, bool | None]) -> str:
    """What decides among rows with the same atoms."""

    def decides(other: Callable[[RawFacts], RawFacts]) -> bool:
        pairs = ({value, outcome.get(other(facts))} for facts, value in outcome.items())
        return any(pair == {True, False} for pair in pairs)

    if decides(lambda facts: replace(facts, preserve_context=not facts.preserve_context)):
        return "preserve_context"
    if decides(lambda facts: replace(facts, snp_guest=not facts.snp_guest)):
        return "SEV_STATUS[2], an SNP guest"
    if decides(lambda facts: facts if facts.leaf else replace(facts, sev=not facts.sev)):
        return "bit 1 of CPUID 0x8000001F where that leaf does not exist"
    return "which of the vendors that no policy names"


def _machines(grid: Grid, cells: Bits) -> str:
    """Which machines these are, in words that stay readable."""
    possible = int(grid.possible.sum())
    count = f"{int(cells.sum())} of {possible} combinations"
    others = grid.possible & ~cells
    where = minimise(
        on=grid.machines(cells), off=grid.machines(others), literals=grid.literals(grid.varied)
    )
    if not others.any():
        return "on every machine"
    if where is None or len(str(where)) > _READABLE:
        return f"on {count} of facts"
    return f"on {count} of facts, where {where}"

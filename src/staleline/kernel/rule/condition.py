# SPDX-License-Identifier: GPL-2.0-or-later
"""From what an image did in every row to the condition on which it does it.

The condition is the shortest that agrees with every combination of facts that a machine can
have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.rule.grid import AXES, LEAF_AXIS, SME_AXIS, Bits, Grid
from staleline.kernel.rule.tableproof import agrees
from staleline.kernel.rule.undecided import reasons
from staleline.policy.atoms import atoms
from staleline.policy.expression import Expression
from staleline.policy.minimise import minimise

__all__ = ["SiteRule", "site_rule"]

#: What `staleline.policy.expression.parse` reads back.
_MAX_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class SiteRule:
    """One site of an image.

    Attributes:
        condition: When it executes WBINVD, minimised over the policies' atoms; None if any
            combination of facts that a machine can have is unknown.
        reads: Names of the atoms that the condition depends on: two machines that differ in
            this one fact are treated differently. Without a condition, those that are known
            to matter.
        unknown: One sentence per thing that could not be established.
        equals: Catalogue policies with the same rule at this site, most fitting first.
    """

    condition: Expression | None
    reads: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    equals: tuple[str, ...] = ()


def site_rule(
    grid: Grid, facts: Sequence[RawFacts], decisions: Sequence[SiteDecision], *, sme_active: bool
) -> SiteRule:
    """The condition on which something happens.

    Args:
        grid: Where the rows lie.
        facts: Per row, its combination.
        decisions: Per row, whether it happened.
        sme_active: The atom may be used: this kernel encrypts on `RawFacts.encrypts`.
    """
    happens, does_not = _seen(grid, decisions)
    reads = _influences(grid, happens, does_not)
    # A combination that was not run, or whose run did not reach its end, leaves no room for a
    # condition: whichever way it turned out would make another rule of it.
    undecided = grid.possible & ~(happens | does_not)
    if undecided.any():
        return SiteRule(None, reads, reasons(grid, facts, decisions, undecided))
    condition = _shortest(grid, happens, reads, sme_active=sme_active)
    if condition is None or len(str(condition)) > _MAX_LENGTH:
        return SiteRule(None, reads, (f"no condition of up to {_MAX_LENGTH} characters says it",))
    # From the rows themselves, and not from the minimiser's view of them.
    if not agrees(condition, grid.along_axes(happens), grid.along_axes(does_not)):
        return SiteRule(None, reads, (f"z3 does not confirm the condition {condition}",))
    return SiteRule(condition, reads)


def _seen(grid: Grid, decisions: Sequence[SiteDecision]) -> tuple[Bits, Bits]:
    """Possible cells all of whose rows agree: that it happens, and that it does not."""
    true, false, unknown = (
        grid.cells([decision.flushes is value for decision in decisions])
        for value in (True, False, None)
    )
    certain = grid.possible & ~unknown & ~(true & false)
    return true & certain, false & certain


def _influences(grid: Grid, happens: Bits, does_not: Bits) -> tuple[str, ...]:
    """Atoms on which it depends: somewhere, this fact alone changes the outcome."""
    true, false = grid.along_axes(happens), grid.along_axes(does_not)
    influences = set()
    for axis, name in enumerate(AXES):
        split = true.any(axis=axis, keepdims=True) & false.any(axis=axis, keepdims=True)
        if split.any():
            # A bit that is read only where its leaf exists is the feature; one that is read
            # without looking is what that CPU answers beyond its maximum.
            only_of_a_leaf = axis == SME_AXIS and not split.take(0, axis=LEAF_AXIS).any()
            influences.add("sme_supported" if only_of_a_leaf else name)
    return tuple(name for name in atoms() if name in influences)


def _shortest(
    grid: Grid, happens: Bits, reads: tuple[str, ...], *, sme_active: bool
) -> Expression | None:
    """From the atoms read if these suffice, else from all."""
    on, off = grid.machines(happens), grid.machines(~happens)
    derived = ("sme_active",) if sme_active else ()
    # A rule may depend on atoms only together, so that none of them alone changes it.
    for names in (reads, grid.varied):
        condition = minimise(on=on, off=off, literals=grid.literals((*names, *derived)))
        if condition is not None:
            return condition
    return None

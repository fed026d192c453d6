# SPDX-License-Identifier: GPL-2.0-or-later
"""The words that several reports use for the same thing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from staleline.vocabulary import Site, Through, state_word

__all__ = [
    "Transition",
    "flush_words",
    "left_words",
    "required_words",
    "state_word",
    "transition_words",
]


class _Flushing(Protocol):
    """What a judgement and an audit's row have in common."""

    @property
    def flushes(self) -> Mapping[Site, bool | None]: ...
    @property
    def unneeded(self) -> Mapping[Site, str]: ...
    @property
    def faults(self) -> Collection[Site]: ...


class Transition(Protocol):
    """What the rows of a policy's check have in common."""

    @property
    def old(self) -> bool:
        """The old kernel encrypts its memory."""
        ...

    @property
    def next(self) -> bool:
        """So does the next one."""
        ...

    @property
    def sev_guests_run(self) -> bool:
        """SEV guests ran."""
        ...


def transition_words(row: Transition) -> str:
    """For instance ``off→on``, or ``off→on, SEV guests``."""
    guests = ", SEV guests" if row.sev_guests_run else ""
    return f"{state_word(row.old)}→{state_word(row.next)}{guests}"


def flush_words(row: _Flushing, site: Site) -> str:
    """What happens at a site."""
    flushes = row.flushes[site]
    if flushes is None:
        return "not established"
    if not flushes:
        return "no WBINVD"
    if site in row.faults:
        return "WBINVD (faults)"
    return "WBINVD (unneeded)" if site in row.unneeded else "WBINVD"


def left_words(site: str, line: str, code: str, through: str) -> str:
    """A line that is left behind, and the store that dirtied it."""
    alias = "the old kernel's own" if through == Through.OWN else "its plain"
    return f"{line}, stored to by {code} through {alias} alias after the WBINVD of {site}"


def required_words(
    needed: Mapping[Site, bool | None], secondaries_site: Site, *, attainable: bool
) -> str:
    """Which sites every safe choice of flushes includes."""
    # Of no safe choice every site would be part.
    if not attainable:
        return "no flush helps"
    if None in needed.values():
        return "depends"
    names = {secondaries_site: "secondaries", Site.RELOCATE_KERNEL: "jumping CPU"}
    wanted = [name for site, name in names.items() if needed[site]]
    return {0: "none", 2: "both"}.get(len(wanted)) or wanted[0]

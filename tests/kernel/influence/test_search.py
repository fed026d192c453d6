# SPDX-License-Identifier: GPL-2.0-or-later
"""A change that decides is told, whatever the other changes do to the run."""

from __future__ import annotations

from staleline.kernel.influence.search import Search, Tried
from staleline.kernel.rerun.changes import Memory
from staleline.kernel.rerun.inputs import nothing
from staleline.kernel.rerun.variation import Variation
from staleline.vocabulary import Site

SITE = frozenset({Site.STOP_THIS_CPU})
HARMLESS, DECIDES = (Memory((address, 1), b"\1", f"at {address}") for address in (8, 16))


def fails_with_both(variation: Variation) -> Tried:
    changed = set(variation.memory)
    if changed == {8, 16}:
        return Tried(frozenset(), {}, "no end")
    return Tried(SITE if 16 in changed else frozenset(), {})


def test_what_decides_alone_and_fails_with_another_is_a_finding():
    search = Search(fails_with_both)
    search.round(nothing, [HARMLESS, DECIDES])
    assert [(one.change, one.sites, one.lost) for one in search.findings] == [(DECIDES, SITE, None)]

# SPDX-License-Identifier: GPL-2.0-or-later
"""A last-level cache that all CPUs share: it takes what private caches evict."""

from __future__ import annotations

from dataclasses import replace

from staleline.model.form import TRUE, Action, Expr, Ref, Whose, all_of
from staleline.model.scenario import Scenario, SharedCache
from staleline.model.state.cpus import ABSENT, DIRTY, each
from staleline.model.state.lines import Alias, Line

__all__ = ["beside_shared_cache", "shared_clean", "shared_entry"]


def shared_entry(alias: Alias) -> Ref:
    """What the shared cache holds of one alias: absent or dirty."""
    # A clean entry would only supply what DRAM supplies. A fill leaves the dirty entry where it is:
    # if hardware moves it along instead, that CPU could as well have made the store itself.
    return Ref(Whose.GLOBAL, f"shared_{alias}")


def beside_shared_cache(scenario: Scenario, line: Line, action: Action) -> Action:
    """The action where there is a shared cache: what it takes from all others, it takes there."""
    if scenario.shared_cache is SharedCache.NONE:
        return action
    taken = tuple(
        shared_entry(alias).becomes(ABSENT)
        for alias in line.aliases
        if each(alias).becomes(ABSENT) in action.assigns
    )
    return replace(action, assigns=(*action.assigns, *taken))


def shared_clean(scenario: Scenario, line: Line) -> Expr:
    """The shared cache holds nothing dirty, which is to say nothing; true where there is none."""
    if scenario.shared_cache is SharedCache.NONE:
        return TRUE
    return all_of(*(shared_entry(alias).none_of(DIRTY) for alias in line.aliases))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario and line to model: variables, actions and properties put together."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from staleline.model.form import FALSE, Action, Model, Variable
from staleline.model.properties import P4, P4_TITLE, handover_done, properties
from staleline.model.scenario import Scenario, SharedCache
from staleline.model.state.caches import evictions
from staleline.model.state.cpus import (
    ABSENT,
    CLEAN,
    DIRTY,
    DRAM,
    NEWEST,
    SEAMCALLED,
    VARIANT_VALUES,
    Data,
    JumpingAt,
    SecondaryAt,
    counts_seamcalls,
)
from staleline.model.state.lines import Line, lines_of
from staleline.model.state.sharedcache import beside_shared_cache, shared_entry
from staleline.model.steps.handover import relocation
from staleline.model.steps.nextkernel import next_kernel_actions
from staleline.model.steps.oldkernel import old_kernel
from staleline.model.steps.playdead import goes_offline
from staleline.model.steps.stop import stop_actions

__all__ = ["model_of", "world"]


def world(scenario: Scenario) -> tuple[tuple[Line, Model], ...]:
    """One model per line role that exists in the scenario."""
    return tuple((line, model_of(scenario, line)) for line in lines_of(scenario))


def model_of(scenario: Scenario, line: Line) -> Model:
    """The handover of one scenario as one line sees it."""
    actions = tuple(_actions(scenario, line))
    reached = {assign.value for action in actions for assign in action.assigns}
    return Model(
        title=f"{scenario.path} handover, {line.role}",
        globals=tuple(_globals(scenario, line, reached)),
        locals=tuple(_per_cpu(scenario, line, _values(SecondaryAt, reached), prefix="")),
        actions=actions,
        properties=properties(scenario, line),
        goal=handover_done(),
        goal_name=P4,
        goal_title=P4_TITLE,
    )


def _actions(scenario: Scenario, line: Line) -> Iterator[Action]:
    for part in (
        old_kernel(scenario, line),
        goes_offline(scenario, line),
        stop_actions(scenario, line),
        relocation(scenario, line),
        next_kernel_actions(scenario, line),
        evictions(scenario, line),
    ):
        for action in part:
            # What can never be taken would only be one more sentence for a reader.
            if action.guard != FALSE:
                yield beside_shared_cache(scenario, line, action)


def _globals(scenario: Scenario, line: Line, reached: set[str]) -> Iterator[Variable]:
    yield from _per_cpu(scenario, line, _values(JumpingAt, reached), prefix="jumping_")
    yield Variable(DRAM.name, _values(Data, reached))
    # A variable's first value is its initial one: nothing of the next kernel's is written yet.
    yield Variable(NEWEST.name, ("none", *(str(alias) for alias in line.aliases)))
    if scenario.shared_cache is not SharedCache.NONE:
        for alias in line.aliases:
            yield Variable(shared_entry(alias).name, (ABSENT, DIRTY))


def _values(kind: type[StrEnum], reached: set[str]) -> tuple[str, ...]:
    """The values of a variable, without those of variants that this model is not of."""
    of_variants = VARIANT_VALUES - reached
    return tuple(str(value) for value in kind if value not in of_variants)


def _per_cpu(
    scenario: Scenario, line: Line, places: tuple[str, ...], *, prefix: str
) -> Iterator[Variable]:
    yield Variable(f"{prefix}pc", places)
    for alias in line.aliases:
        yield Variable(f"{prefix}{alias}", (ABSENT, CLEAN, DIRTY))
    if counts_seamcalls(scenario, line):
        yield Variable(f"{prefix}{SEAMCALLED}", ("no", "yes"))

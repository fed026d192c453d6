# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenario and line to model: variables, actions and properties put together."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from staleline.model.caches import evictions
from staleline.model.cpus import (
    ABSENT,
    CLEAN,
    DIRTY,
    DRAM,
    NEWEST,
    Data,
    JumpingAt,
    SecondaryAt,
)
from staleline.model.form import FALSE, Action, Model, Variable
from staleline.model.handover import handover
from staleline.model.lines import Line, lines_of
from staleline.model.nextkernel import next_kernel
from staleline.model.oldkernel import old_kernel
from staleline.model.properties import P4, P4_TITLE, handover_done, properties
from staleline.model.scenario import Scenario
from staleline.model.wbinvd import SEAMCALLED, counts_seamcalls

__all__ = ["model_of", "world"]


def world(scenario: Scenario) -> tuple[tuple[Line, Model], ...]:
    """One model per line role that exists in the scenario."""
    return tuple((line, model_of(scenario, line)) for line in lines_of(scenario))


def model_of(scenario: Scenario, line: Line) -> Model:
    """The handover of one scenario as one line sees it."""
    return Model(
        title=f"{scenario.path} handover, {line.role}",
        globals=tuple(_globals(scenario, line)),
        locals=tuple(_per_cpu(scenario, line, SecondaryAt, prefix="")),
        actions=tuple(_actions(scenario, line)),
        properties=properties(scenario, line),
        goal=handover_done(),
        goal_name=P4,
        goal_title=P4_TITLE,
    )


def _actions(scenario: Scenario, line: Line) -> Iterator[Action]:
    for part in (
        old_kernel(scenario, line),
        handover(scenario, line),
        next_kernel(scenario, line),
        evictions(line),
    ):
        yield from (action for action in part if action.guard != FALSE)


def _globals(scenario: Scenario, line: Line) -> Iterator[Variable]:
    yield from _per_cpu(scenario, line, JumpingAt, prefix="jumping_")
    yield Variable(DRAM.name, tuple(str(data) for data in Data))
    yield Variable(NEWEST.name, ("none", *(str(alias) for alias in line.aliases)))


def _per_cpu(
    scenario: Scenario, line: Line, places: type[StrEnum], *, prefix: str
) -> Iterator[Variable]:
    yield Variable(f"{prefix}pc", tuple(str(place) for place in places))
    for alias in line.aliases:
        yield Variable(f"{prefix}{alias}", (ABSENT, CLEAN, DIRTY))
    if counts_seamcalls(scenario, line):
        yield Variable(f"{prefix}{SEAMCALLED}", ("no", "yes"))

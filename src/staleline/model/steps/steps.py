# SPDX-License-Identifier: GPL-2.0-or-later
"""How steps of the two kernels are written down."""

from __future__ import annotations

from typing import NamedTuple

from staleline.model.form import Action, Assign, Expr
from staleline.model.scenario import Scenario
from staleline.model.state.cpus import JUMPING, Cpu, JumpingAt, SecondaryAt

__all__ = ["WBINVD", "Where", "flush_begins", "step"]

WBINVD = "SDM, APM: WBINVD writes back all modified lines of this CPU and invalidates them"


class Where(NamedTuple):
    """A kernel function and its source."""

    function: str
    source: str


def step(
    cpu: Cpu, name: str, guard: Expr, assigns: tuple[Assign, ...], text: tuple[str, str, str]
) -> Action:
    """An action of one CPU; `text` is function, source, sentence."""
    function, source, sentence = text
    return Action(
        name=f"{cpu.actor}_{name}",
        actor=cpu.actor,
        guard=guard,
        assigns=assigns,
        function=function,
        source=source,
        sentence=sentence,
    )


def flush_begins(scenario: Scenario, cpu: Cpu, guard: Expr, where: Where) -> Action:
    """A site's WBINVD begins, or faults."""
    if scenario.flush_faults:
        faulted = JumpingAt.FAULTED if cpu is JUMPING else SecondaryAt.FAULTED
        says = f"{{cpu}} executes WBINVD in {where.function}, where it faults."
        return step(cpu, "flush_faults", guard, (cpu.goes(faulted),), (*where, says))
    flushing = JumpingAt.FLUSHING if cpu is JUMPING else SecondaryAt.FLUSHING
    says = f"{{cpu}} begins the WBINVD of {where.function}."
    return step(cpu, "flush_begins", guard, (cpu.goes(flushing),), (*where, says))

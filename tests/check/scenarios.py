# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios that several tests start from."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

from staleline.model.form import Model
from staleline.model.scenario import Flush, ForeignLines, Path, ReportOrder, Scenario
from staleline.model.world import world

#: Old and next kernel's encryption, by the names of the transitions.
TRANSITIONS = {
    "off→off": (False, False),
    "off→on": (False, True),
    "on→off": (True, False),
    "on→on": (True, True),
}


def kexec(transition: str, **changes: Any) -> Scenario:
    """A kexec on incoherent hardware on which every CPU flushes, unless changed."""
    old, following = TRANSITIONS[transition]
    fields: dict[str, Any] = {
        "path": Path.KEXEC,
        "old_encrypts": old,
        "next_encrypts": following,
        "incoherent": True,
        "flush_secondary": Flush.ALWAYS,
        "flush_jumping": Flush.ALWAYS,
    }
    return Scenario(**(fields | changes))


def crash(transition: str, **changes: Any) -> Scenario:
    """A crash on incoherent hardware on which only the crashing CPU flushes, unless changed."""
    return kexec(transition, **({"path": Path.CRASH, "flush_secondary": Flush.NEVER} | changes))


def every_scenario(secondaries: int) -> list[Scenario]:
    """Every combination that a machine can show."""
    flushes = (Flush.NEVER, Flush.ALWAYS)
    found = [
        kexec(
            transition,
            path=path,
            incoherent=incoherent,
            foreign=foreign,
            flush_secondary=secondary,
            flush_jumping=jumping,
            report=report,
            secondaries=secondaries,
        )
        for transition, path, incoherent, foreign, secondary, jumping, report in product(
            TRANSITIONS, Path, (True, False), ForeignLines, flushes, flushes, ReportOrder
        )
        if incoherent or foreign is not ForeignLines.TDX
    ]
    faulting = [
        kexec(
            transition,
            incoherent=False,
            flush_faults=True,
            flush_secondary=secondary,
            flush_jumping=jumping,
            secondaries=secondaries,
        )
        for transition in ("off→off", "on→on")
        for secondary, jumping in product(flushes, flushes)
    ]
    after_seamcall = [
        kexec(
            "off→off",
            foreign=ForeignLines.TDX,
            flush_secondary=secondary,
            flush_jumping=jumping,
            secondaries=secondaries,
        )
        for secondary, jumping in product(Flush, Flush)
    ]
    return found + faulting + after_seamcall


@cache
def distinct_models() -> tuple[Model, ...]:
    """The models of every scenario, those that differ in texts only counted once."""
    models = [model for scenario in every_scenario(2) for _, model in world(scenario)]
    return tuple({_meaning(model): model for model in models}.values())


def _meaning(model: Model) -> object:
    steps = tuple((action.guard, action.assigns) for action in model.actions)
    return model.globals, model.locals, steps, model.properties

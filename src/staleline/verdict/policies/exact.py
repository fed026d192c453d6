# SPDX-License-Identifier: GPL-2.0-or-later
"""The same handovers for exactly as many CPUs as a real machine has, by decision diagrams."""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from staleline.check.answer import is_safe
from staleline.check.diagrams.decisiondiagram import Explored, behaviour, explore
from staleline.errors import ModelError
from staleline.model.form import Model
from staleline.model.scenario import Scenario
from staleline.model.state.lines import Role
from staleline.model.world import world
from staleline.verdict.policies.platforms import PlatformHandover
from staleline.vocabulary import Verdict
from staleline.workers import Failure, ProcessLimits, run_each

__all__ = ["ExactCheck", "agreement", "distinct_models", "expected_seconds", "explored_models"]

#: From how many models, with how many CPUs, the time is told beforehand.
_SAMPLE, _FEW = 6, 32
_LIMITS = ProcessLimits(seconds=3600.0)


@dataclass(frozen=True, slots=True)
class ExactCheck:
    """What all models of some handovers say for an exact number of CPUs.

    Attributes:
        cpus: Number of CPUs, the jumping one included.
        models: Number of different models, one per line role.
        states: Reachable states of all of them, exactly.
        disagreeing: Handovers of which the search says otherwise with as many CPUs.
        needing_more: Handovers at risk that so few CPUs do not show to be.
    """

    cpus: int
    models: int
    states: int
    disagreeing: tuple[PlatformHandover, ...]
    needing_more: tuple[PlatformHandover, ...] = ()


def distinct_models(rows: Sequence[PlatformHandover]) -> tuple[Model, ...]:
    """The different models that the handovers are made of."""
    return tuple(dict.fromkeys(model for row in rows for model in _models(row)))


def explored_models(
    models: Sequence[Model], cpus: int, jobs: int = 1
) -> Iterator[tuple[Model, Explored]]:
    """Explore each model with `cpus` CPUs, and models that behave alike once.

    Args:
        models: The models.
        cpus: Number of CPUs, the jumping one included.
        jobs: Processes at a time.

    Raises:
        ModelError: One could not be explored.
    """
    alike = _alike(models)
    work = partial(explore, secondaries=cpus - 1)
    if jobs == 1:
        for group in alike:
            found = work(group[0])
            yield from ((model, found) for model in group)
        return
    firsts = [group[0] for group in alike]
    for number, explored in run_each(work, firsts, jobs=jobs, limits=_LIMITS, preload=(__name__,)):
        if isinstance(explored, Failure):
            raise ModelError(f"{firsts[number].title} with {cpus} CPUs: {explored.reason}")
        yield from ((model, explored) for model in alike[number])


def _alike(models: Sequence[Model]) -> list[list[Model]]:
    """Those that behave alike together."""
    groups: dict[Hashable, list[Model]] = {}
    for model in models:
        groups.setdefault(behaviour(model), []).append(model)
    return list(groups.values())


def expected_seconds(models: Sequence[Model], cpus: int) -> float:
    """About how long one process takes to explore them, if nothing else runs."""
    firsts = [group[0] for group in _alike(models)]
    # Spread over all of them, as models of one handover take about as long.
    sample = firsts[:: max(1, len(firsts) // _SAMPLE)][:_SAMPLE]
    few = min(cpus, _FEW)
    start = time.process_time()
    for model in sample:
        explore(model, few - 1)
    # It is in proportion to the number of CPUs (docs/benchmarks.md).
    return (time.process_time() - start) / len(sample) * len(firsts) * cpus / few


def agreement(
    rows: Sequence[PlatformHandover], explored: Sequence[tuple[Model, Explored]], cpus: int
) -> ExactCheck:
    """Compare what the search says of the handovers with what was explored."""
    by_model = dict(explored)
    broken = {row: any(by_model[model].violated for model in _models(row)) for row in rows}
    return ExactCheck(
        cpus=cpus,
        models=len(by_model),
        states=sum(reached.states for reached in by_model.values()),
        # Proofs for any number of CPUs and counterexamples with few say the same already; this is
        # the check by a third engine, which shares nothing with the other two but the model.
        disagreeing=tuple(row for row in rows if _disagrees(row, by_model, cpus)),
        needing_more=tuple(
            row for row in rows if row.judgement.verdict is Verdict.AT_RISK and not broken[row]
        ),
    )


def _disagrees(row: PlatformHandover, by_model: Mapping[Model, Explored], cpus: int) -> bool:
    """Does one engine break a scenario that the other does not?"""
    # Scenario by scenario, as an unknown verdict has some of either kind; and with no more CPUs
    # than were explored, as what breaks with more is no contradiction.
    roles = row.judgement.case.roles
    return any(
        # One line that breaks it breaks the handover, as for the other two engines.
        any(by_model[model].violated for model in _models_of(scenario, roles))
        is is_safe(replace(scenario, secondaries=min(scenario.secondaries, cpus - 1)), roles)
        for scenario in _scenarios(row)
    )


def _models(row: PlatformHandover) -> Iterator[Model]:
    for scenario in _scenarios(row):
        yield from _models_of(scenario, row.judgement.case.roles)


def _scenarios(row: PlatformHandover) -> Iterator[Scenario]:
    """Those that the verdict is about."""
    return filter(row.judgement.case.is_looked_at, row.judgement.scenarios)


def _models_of(scenario: Scenario, roles: Collection[Role] | None) -> Iterator[Model]:
    for line, model in world(scenario):
        if roles is None or line.role in roles:
            yield model

# SPDX-License-Identifier: GPL-2.0-or-later
"""The same handovers for exactly as many CPUs as a real machine has, by decision diagrams.

Proofs for any number of CPUs and counterexamples with few say the same already; this is the
check by a third engine, which shares nothing with the other two but the model.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from staleline.check.diagrams.decisiondiagram import Explored, behaviour, explore
from staleline.errors import ModelError
from staleline.model.form import Model
from staleline.model.world import world
from staleline.verdict.policies.platforms import PlatformHandover
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
        disagreeing: Handovers whose verdict is another one for this number.
    """

    cpus: int
    models: int
    states: int
    disagreeing: tuple[PlatformHandover, ...]


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
    """About how long one process takes to explore them, if nothing else runs.

    The time is in proportion to the number of CPUs (docs/benchmarks.md); it is measured here,
    with fewer CPUs, on some of the models.
    """
    firsts = [group[0] for group in _alike(models)]
    # Spread over all of them, as models of one handover take about as long.
    sample = firsts[:: max(1, len(firsts) // _SAMPLE)][:_SAMPLE]
    few = min(cpus, _FEW)
    start = time.process_time()
    for model in sample:
        explore(model, few - 1)
    return (time.process_time() - start) / len(sample) * len(firsts) * cpus / few


def agreement(
    rows: Sequence[PlatformHandover], explored: Sequence[tuple[Model, Explored]], cpus: int
) -> ExactCheck:
    """Compare the handovers' verdicts with what was explored."""
    by_model = dict(explored)
    return ExactCheck(
        cpus=cpus,
        models=len(by_model),
        states=sum(reached.states for reached in by_model.values()),
        disagreeing=tuple(
            row
            for row in rows
            # One line that breaks it breaks the handover, as for the other two engines.
            if any(by_model[model].violated for model in _models(row))
            is not (row.judgement.counterexample is not None)
        ),
    )


def _models(row: PlatformHandover) -> Iterator[Model]:
    for scenario in row.judgement.scenarios:
        yield from (model for _, model in world(scenario))

# SPDX-License-Identifier: GPL-2.0-or-later
"""A value with its evidence, and how the observations of several CPUs become one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from staleline.facts.fact import Fact, Layer, Value

__all__ = [
    "DUMP_AGAIN",
    "NOT_READ",
    "Observation",
    "first_told",
    "merged_observation",
    "observed_as",
    "untold",
]

DUMP_AGAIN = "dump all leaves (cpuid -r), or staleline collect"
#: Where all is got at once, all is told in one way, so that it is asked for once.
NOT_READ = f"CPUID was not read: {DUMP_AGAIN}"


@dataclass(frozen=True, slots=True)
class Observation:
    """A value and its source, or no value and what is missing."""

    value: Value
    source: str | None = None
    missing: str | None = None

    def fact(self, name: str, layer: Layer, text: str) -> Fact:
        """This observation under a name."""
        return Fact(name, layer, text, self.value, self.source, self.missing)


def observed_as(value: Value, source: str) -> Observation:
    """The evidence gives `value`."""
    return Observation(value, source=source)


def untold(missing: str) -> Observation:
    """The evidence does not tell; `missing` says what is missing and how to get it."""
    return Observation(None, missing=missing)


def first_told(observations: Iterable[Observation]) -> Observation:
    """The first that has a value, else the first; lazily."""
    first: Observation | None = None
    for observation in observations:
        if observation.value is not None:
            return observation
        first = first or observation
    return first or untold("there is no evidence; give a CPUID dump")


def merged_observation(per_cpu: Iterable[Observation], missing: str) -> Observation:
    """One observation for the machine; no value where CPUs tell different ones."""
    agreed: tuple[int, Observation] | None = None
    silent: Observation | None = None
    for cpu, observation in enumerate(per_cpu):
        if observation.value is None:
            # Passed over: evidence of one CPU may stand for all.
            silent = silent or observation
        elif agreed is None:
            agreed = cpu, observation
        elif observation.value != agreed[1].value:
            return untold(_disagreement(agreed, (cpu, observation)))
    return agreed[1] if agreed else (silent or untold(missing))


def _disagreement(*observed: tuple[int, Observation]) -> str:
    return "CPUs differ: " + " and ".join(
        f"cpus[{cpu}] {observation.source} is {observation.value!r}"
        for cpu, observation in observed
    )

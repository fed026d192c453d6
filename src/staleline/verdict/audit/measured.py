# SPDX-License-Identifier: GPL-2.0-or-later
"""What was measured on a machine: by the kit of litmus tests, or durations of WBINVD alone.

Durations are as docs/examples/wbinvd.bt prints them, one event a line:

wbinvd cpu 17 ns 812345
all_cpus ns 2312345
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from staleline.errors import EvidenceError
from staleline.evidence.contradiction import measured_against_cpuid, raise_if_any
from staleline.facts import MachineFacts
from staleline.inputfile import read_input
from staleline.litmus.results import (
    LitmusResult,
    MeasuredAliases,
    is_litmus_result,
    litmus_result,
)

__all__ = ["Measured", "read_measured", "require_agreement"]

_EVENT = re.compile(r"(?:(?P<one>wbinvd) cpu \d{1,6}|(?P<all>all_cpus)) ns (?P<ns>\d{1,12})")
_SIZE_MAX = 16 << 20
_NANO = 1e-9


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians, in seconds.

    Attributes:
        one_cpu: Of WBINVD on one CPU; None if none was seen.
        all_cpus: Of WBINVD on all CPUs at once, until the last is done.
        events: How many of both were seen.
        litmus: What the kit was told, if it was the kit.
    """

    one_cpu: float | None
    all_cpus: float | None
    events: int
    litmus: LitmusResult | None = None


def read_measured(path: Path) -> Measured:
    """Read a result of the kit, or lines of durations among which others are passed over.

    Raises:
        EvidenceError: It cannot be read, or holds no such line.
    """
    recorded = read_input(path, EvidenceError, limit=_SIZE_MAX, do="record for a shorter time")
    if is_litmus_result(recorded):
        return _by_kit(litmus_result(recorded, str(path)))
    text = recorded.decode("utf-8", "replace")
    events = list(_events(text))
    if not events:
        raise EvidenceError(
            "no line says how long a WBINVD took",
            where=path,
            do="record one with docs/examples/wbinvd.bt while something flushes",
        )
    of_one = [seconds for alone, seconds in events if alone]
    of_all = [seconds for alone, seconds in events if not alone]
    # Not the mean: an interrupt or an SMI in one WBINVD is no property of the caches.
    return Measured(
        one_cpu=median(of_one) if of_one else None,
        all_cpus=median(of_all) if of_all else None,
        events=len(events),
    )


def _by_kit(result: LitmusResult) -> Measured:
    # Full caches of one CPU; of all at once what they held by chance, which the kit says.
    of_one = [one for one in result.durations if one.cpu is not None and one.dirty_kb]
    full = [ns for one in of_one for ns in one.nanoseconds]
    together = [ns for one in result.durations if one.cpu is None for ns in one.nanoseconds]
    return Measured(
        one_cpu=median(full) * _NANO if full else None,
        all_cpus=median(together) * _NANO if together else None,
        events=len(full) + len(together),
        litmus=result,
    )


def require_agreement(measured: Measured | None, facts: MachineFacts, where: str) -> None:
    """Refuse what was measured elsewhere, and what CPUID excludes.

    Raises:
        EvidenceError: It is of another CPU.
        ContradictionError: The aliases were measured to be incoherent, and are not by CPUID.
    """
    result = None if measured is None else measured.litmus
    if result is None:
        return
    machine = result.machine
    there = (machine.vendor, machine.family, machine.model, machine.stepping)
    here = (facts.text("vendor"), *map(facts.integer, ("family", "model", "stepping")))
    # What is not known here contradicts nothing.
    if any(known not in (None, told) for known, told in zip(here, there, strict=True)):
        raise EvidenceError(
            f"was measured on {_named(there)}, and this machine is {_named(here)}",
            where=where,
            do="run the kit on this machine",
        )
    excluded = True in (facts.boolean("coherency_enforced"), machine.says_coherent)
    if result.aliases is MeasuredAliases.INCOHERENT and excluded:
        contradiction = measured_against_cpuid(result.starred, result.asked)
        raise_if_any((contradiction,), where)


def _named(cpu: tuple[object, ...]) -> str:
    vendor, family, model, stepping = ("unknown" if part is None else part for part in cpu)
    return f"{vendor} family {family} model {model} stepping {stepping}"


def _events(text: str) -> Iterator[tuple[bool, float]]:
    """(on one CPU, seconds)."""
    for line in text.splitlines():
        match = _EVENT.fullmatch(line.strip())
        if match is not None:
            yield match["one"] is not None, int(match["ns"]) * _NANO

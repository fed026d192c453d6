# SPDX-License-Identifier: GPL-2.0-or-later
"""Durations of WBINVD as docs/examples/wbinvd.bt prints them, one event a line.

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
from staleline.inputfile import read_input

__all__ = ["Measured", "read_measured"]

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
    """

    one_cpu: float | None
    all_cpus: float | None
    events: int


def read_measured(path: Path) -> Measured:
    """Read a file of such lines; others, such as those of bpftrace itself, are passed over.

    Raises:
        EvidenceError: It cannot be read, or holds no such line.
    """
    recorded = read_input(path, EvidenceError, limit=_SIZE_MAX, do="record for a shorter time")
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


def _events(text: str) -> Iterator[tuple[bool, float]]:
    """(on one CPU, seconds)."""
    for line in text.splitlines():
        match = _EVENT.fullmatch(line.strip())
        if match is not None:
            yield match["one"] is not None, int(match["ns"]) * _NANO

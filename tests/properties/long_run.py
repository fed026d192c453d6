# SPDX-License-Identifier: GPL-2.0-or-later
"""The long run: rounds of every kind by seed, on several processes, until enough machines.

``python -m tests.properties.long_run --machines 20000`` ends with a table of what was tried
and every violation with the seed that shows it again: ``--first 123 --machines 1``. With
``--no-images`` no image is run, which is most of the time; seeds draw other machines then.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from random import Random

from tests.properties.images import cached_images
from tests.properties.rounds import ROUNDS, Violation

#: Seeds that a process takes at a time.
_BATCH = 5


@dataclass
class Tally:
    """What was tried, by kind of round."""

    rounds: Counter[str] = field(default_factory=Counter)
    machines: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[str, int, Violation]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count another one in."""
        self.rounds += other.rounds
        self.machines += other.machines
        self.outcomes += other.outcomes
        self.violations += other.violations


def tried(first: int, seeds: int, *, with_images: bool) -> Tally:
    """A round of each kind for every seed."""
    tally, images = Tally(), cached_images() if with_images else {}
    for seed in range(first, first + seeds):
        for kind, play in ROUNDS.items():
            done = play(Random(f"{kind} {seed}"), images)
            tally.rounds[kind] += 1
            tally.machines[kind] += done.machines
            tally.outcomes += done.outcomes
            tally.violations += [(kind, seed, one) for one in done.violations]
    return tally


def _batches(options: argparse.Namespace) -> Iterator[Tally]:
    """The tallies of one batch after the other, until there are enough machines or no time."""
    end = time.monotonic() + options.seconds
    first, machines = options.first, 0
    with ProcessPoolExecutor(options.workers) as pool:
        while machines < options.machines and time.monotonic() < end:
            starts = range(first, first + _BATCH * options.workers, _BATCH)
            batch = partial(tried, seeds=_BATCH, with_images=not options.no_images)
            for tally in pool.map(batch, starts):
                machines += tally.machines.total()
                yield tally
            first += _BATCH * options.workers
    print(f"next seed: {first}")


def main() -> int:
    """Run as the module's documentation says; status 1 if a principle is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--no-images", action="store_true", help="ask about the catalogue only")
    options = parser.parse_args()
    started, whole = time.monotonic(), Tally()
    for tally in _batches(options):
        whole.add(tally)
        count = whole.machines.total()
        print(f"{count} machines, {len(whole.violations)} violations", flush=True)
        _tell(tally.violations)
    _report(whole, time.monotonic() - started)
    return 1 if whole.violations else 0


def _report(tally: Tally, seconds: float) -> None:
    print("\n| kind | rounds | machines |\n|---|---:|---:|")
    for kind, machines in tally.machines.items():
        print(f"| {kind} | {tally.rounds[kind]} | {machines} |")
    print(f"| all | {tally.rounds.total()} | {tally.machines.total()} |")
    print("\n| an audit ends in | times |\n|---|---:|")
    for outcome, times in tally.outcomes.most_common():
        print(f"| {outcome} | {times} |")
    print(f"\n{len(tally.violations)} violations in {seconds:.0f} s")
    _tell(tally.violations)


def _tell(violations: Iterable[tuple[str, int, Violation]]) -> None:
    for kind, seed, violation in violations:
        print(f"{kind} {seed}: {violation}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

# SPDX-License-Identifier: GPL-2.0-or-later
"""Exact checks by decision diagrams, up to as many CPUs as machines have.

For each set of line roles and number of CPUs: wall time of a whole exploration (tables,
diagrams, properties and goal), how many states it found, and the highest memory of the process
so far. Every case that a plain search with symmetry can still do is counted by it, too, and
the counts must be equal. Prints a table.
"""

from __future__ import annotations

import resource
import time

from tests.check.search.counting import count_states

from staleline.check.diagrams.decisiondiagram import explore
from staleline.check.export.combine import combined
from staleline.model.scenario import Flush, Path, Scenario
from staleline.model.state.lines import Role
from staleline.model.world import world

#: A kernel that encrypts hands over to one that does not, and every CPU flushes.
SCENARIO = Scenario(
    path=Path.KEXEC,
    old_encrypts=True,
    next_encrypts=False,
    incoherent=True,
    flush_secondary=Flush.ALWAYS,
    flush_jumping=Flush.ALWAYS,
)
CASES = (
    ((Role.IMAGE,), (2, 8, 64, 256)),
    ((Role.STOP_MASK,), (2, 8, 64, 256)),
    ((Role.IMAGE, Role.REST), (2, 4, 8, 64)),
    ((Role.IMAGE, Role.STOP_MASK), (2, 4, 8, 64)),
    ((Role.IMAGE, Role.REST, Role.STOP_MASK), (2, 8)),
)
#: CPUs times roles up to which the plain search counts, too.
COUNTED = 8


def main() -> None:
    """Print one row per case."""
    print(f"{'line roles':34} {'CPUs':>4} {'seconds':>8} {'states':>12} {'nodes':>9} {'MB':>4}")
    for roles, numbers in CASES:
        model = combined([pair for pair in world(SCENARIO) if pair[0].role in roles])
        for cpus in numbers:
            start = time.perf_counter()
            explored = explore(model, cpus - 1)
            seconds = time.perf_counter() - start
            if cpus * len(roles) <= COUNTED:
                assert explored.states == count_states(model, cpus - 1)
            states = str(explored.states)
            shown = states if len(states) < 12 else f"{states[0]}.{states[1:4]}e{len(states) - 1}"
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(
                f"{' + '.join(roles):34} {cpus:4} {seconds:8.2f} {shown:>12}"
                f" {explored.nodes:9} {memory:4}",
                flush=True,
            )


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether there is more than one CPU, so that a kexec has others to stop."""

from __future__ import annotations

from collections.abc import Iterator

from staleline.evidence.snapshot import Snapshot
from staleline.facts.fact import Fact, Layer
from staleline.facts.observation import Observation, first_told, observed_as, untold
from staleline.facts.told.log import of_log
from staleline.facts.told.stated import stated

__all__ = ["several_cpus"]

_MISSING = untold(
    'how many CPUs there are: give --state "cpus=$(cat /sys/devices/system/cpu/present)", which '
    "lacks those that nr_cpus= left out, or run staleline collect"
)


def several_cpus(snapshot: Snapshot) -> Fact:
    """True where any evidence shows two; false only where CPUID and the kernel agree on one."""
    observation = first_told(
        (*_several(snapshot), *stated("several_cpus", snapshot, bool), *_one(snapshot), _MISSING)
    )
    return observation.fact("several_cpus", Layer.KERNEL, "there is more than one CPU")


def _several(snapshot: Snapshot) -> Iterator[Observation]:
    if len(snapshot.cpus) > 1:
        yield observed_as(True, f"CPUID of {len(snapshot.cpus)} CPUs")
    if snapshot.state.offline_cpus or (snapshot.state.online_cpus or 0) > 1:
        yield observed_as(True, "/sys/devices/system/cpu/{present,online}")
    # CPUs that Linux was told not to use (nr_cpus=) count: CPUID is the better witness, as
    # what is said of one CPU alone must not depend on what else was collected.
    threads = max((cpu.cpuid.logical_cpus or 0 for cpu in snapshot.cpus), default=0)
    if threads > 1:
        yield observed_as(True, f"CPUID: {threads} logical CPUs in a socket")
    for name in ("present_cpus", "cpus_brought_up"):
        for counted in of_log(snapshot, name):
            if isinstance(counted.value, int) and counted.value > 1:
                yield observed_as(True, counted.source or "")


def _one(snapshot: Snapshot) -> Iterator[Observation]:
    """The kernel's own count, as one CPU may have been read for all."""
    state = snapshot.state
    # All three: a secondary that is overlooked leaves its lines behind unseen, while one that is
    # assumed where there is none only asks for more evidence.
    alone = state.online_cpus == 1 and state.offline_cpus == ()
    if alone and len(snapshot.cpus) == 1 and snapshot.cpus[0].cpuid.logical_cpus == 1:
        yield observed_as(False, "/sys/devices/system/cpu/{present,online}, and CPUID")

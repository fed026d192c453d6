# SPDX-License-Identifier: GPL-2.0-or-later
"""How much a machine's caches can hold back: what WBINVD may have to write to memory."""

from __future__ import annotations

from dataclasses import dataclass

from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.staleline_collect import cpu_list
from staleline.facts.caches import caches

__all__ = ["CacheCapacity", "cache_capacity"]

_UNIFIED = 3


@dataclass(frozen=True, slots=True)
class CacheCapacity:
    """Bytes that can be dirty at once, in L2 and L3.

    Attributes:
        socket: In one socket.
        cluster: In one L3 and every L2 beside it, which share a way to memory.
        jumping_cpu: In one L2 and its L3: what one CPU's WBINVD is sure to reach.
        source: Where this is from.
    """

    socket: int
    cluster: int
    jumping_cpu: int
    source: str


@dataclass(frozen=True, slots=True)
class _Level:
    """The caches of one level in one socket."""

    bytes: int
    number: float


def cache_capacity(snapshot: Snapshot) -> CacheCapacity | None:
    """By what the kernel lists, else by CPUID of the first CPU; None where neither tells."""
    cpuid = snapshot.cpus[0].cpuid if snapshot.cpus else CpuidTable({})
    threads = cpuid.threads_per_socket
    if threads is None:
        return None
    listed, described = _listed(snapshot, threads), _described(cpuid, threads)
    # What the kernel lists is counted; by CPUID every CPU has the caches of the first.
    if listed.keys() >= {2, 3}:
        return _capacity(listed, "/sys/devices/system/cpu/cpu*/cache: CPUs that are online")
    return _capacity(described, "CPUID of the first CPU") if described.keys() >= {2, 3} else None


def _capacity(levels: dict[int, _Level], source: str) -> CacheCapacity:
    # The first level is 3 to 6 % of the second on the CPUs that encrypt memory, and is left out.
    l2, l3 = levels[2], levels[3]
    return CacheCapacity(
        socket=round(l2.bytes * l2.number + l3.bytes * l3.number),
        cluster=round(l2.bytes * l2.number / l3.number + l3.bytes),
        jumping_cpu=l2.bytes + l3.bytes,
        source=source,
    )


def _listed(snapshot: Snapshot, threads: int) -> dict[int, _Level]:
    unified = [
        cache for cache in snapshot.caches if cache.type == "Unified" and cache.cpus and cache.bytes
    ]
    try:
        online = max(
            (sum(len(cpu_list(cpus)) for cpus in cache.cpus) for cache in unified), default=0
        )
    except ValueError:  # not what the kernel writes: of no use here
        return {}
    # sysfs lists the caches of CPUs that are online only; offline ones fill their sockets too.
    present = online + len(snapshot.state.offline_cpus or ())
    sockets = max(1, -(-present // threads))
    return {cache.level: _Level(cache.bytes, len(cache.cpus) / sockets) for cache in unified}


def _described(cpuid: CpuidTable, threads: int) -> dict[int, _Level]:
    return {
        # Sharers are a maximum, rounded up to a power of two (Intel SDM volume 2, CPUID leaf 4
        # EAX[25:14]): where they exceed the socket's CPUs, it has one such cache.
        cache.level: _Level(cache.bytes, max(1.0, threads / cache.sharers))
        for cache in caches(cpuid)
        if cache.type == _UNIFIED
    }

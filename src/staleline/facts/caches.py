# SPDX-License-Identifier: GPL-2.0-or-later
"""Caches by CPUID: levels, who shares them, and how far WBINVD is guaranteed to reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import Snapshot
from staleline.facts.fact import Fact, Layer
from staleline.facts.observation import (
    DUMP_AGAIN,
    NOT_READ,
    Observation,
    merged_observation,
    observed_as,
    untold,
)
from staleline.hardware import AMD_AND_HYGON

__all__ = ["CACHE_NAMES", "Cache", "cache_facts", "cache_leaf", "caches"]

_AMD_LEAF = 0x8000_001D
#: (level, type) -> name; type 1 is data, 2 instructions, 3 both.
CACHE_NAMES = {(1, 1): "l1d", (1, 2): "l1i", (2, 3): "l2", (3, 3): "l3"}


@dataclass(frozen=True, slots=True)
class Cache:
    """One cache of a logical CPU.

    Attributes:
        subleaf: Sub-leaf that describes it.
        level: 1, 2, 3, ...
        type: 1 data, 2 instructions, 3 both.
        sharers: Logical CPUs that share it (at most).
        wbinvd_guaranteed: WBINVD by one sharer acts on the lower levels of all.
        bytes: Its size.
    """

    subleaf: int
    level: int
    type: int
    sharers: int
    wbinvd_guaranteed: bool
    bytes: int


def cache_leaf(cpuid: CpuidTable) -> int | None:
    """The leaf that describes this CPU's caches; None where it has none or is not known."""
    if cpuid.vendor is None:
        return None
    # By vendor, as Linux asks (7.3.4 arch/x86/kernel/cpu/cacheinfo.c:283): leaf 4 is reserved on
    # AMD's CPUs.
    leaf = _AMD_LEAF if cpuid.vendor in AMD_AND_HYGON else 4
    maximum = cpuid.max_extended_leaf if leaf == _AMD_LEAF else cpuid.max_basic_leaf
    return leaf if maximum is not None and leaf <= maximum else None


def caches(cpuid: CpuidTable) -> tuple[Cache, ...]:
    """The caches that the dump describes, in sub-leaf order."""
    return tuple(_caches(cpuid))


def _caches(cpuid: CpuidTable) -> Iterator[Cache]:
    leaf = cache_leaf(cpuid)
    if leaf is None:
        return
    # Type 0 says that there are no more; a bound, as a dump may repeat one sub-leaf for ever.
    for subleaf in range(32):
        registers = cpuid.recorded(leaf, subleaf)
        if registers is None or registers[0] & 0x1F == 0:
            return
        # Leaf 0x8000001D (AMD, Hygon) and leaf 4 (others) have one layout.
        eax, ebx, ecx, edx = registers
        # Each count is stored as one less (Intel SDM volume 2, CPUID leaf 4).
        ways, partitions, line = (ebx >> 22) + 1, (ebx >> 12 & 0x3FF) + 1, (ebx & 0xFFF) + 1
        yield Cache(
            subleaf=subleaf,
            level=eax >> 5 & 0x7,
            type=eax & 0x1F,
            sharers=(eax >> 14 & 0xFFF) + 1,
            # Set, the bit says that WBINVD by one sharer is *not guaranteed* to act on the others'
            # lower levels (Linux 7.3 arch/x86/include/asm/cpuid/leaf_types.h:
            # wbinvd_rll_no_guarantee).
            wbinvd_guaranteed=not edx & 1,
            bytes=ways * partitions * line * (ecx + 1),
        )


def cache_facts(snapshot: Snapshot) -> Iterator[Fact]:
    """For each of `CACHE_NAMES`: its sharers, and whether WBINVD is guaranteed for them."""
    per_cpu = [_named(cpu.cpuid) for cpu in snapshot.cpus]
    missing = NOT_READ
    for name in CACHE_NAMES.values():
        observed = (
            _wbinvd(cpu.cpuid, named.get(name), name)
            for cpu, named in zip(snapshot.cpus, per_cpu, strict=True)
        )
        yield merged_observation(observed, missing).fact(
            f"wbinvd_guaranteed_{name}",
            Layer.HARDWARE,
            f"WBINVD by one sharer of the {name.upper()} is guaranteed to act for all sharers",
        )
    for name in CACHE_NAMES.values():
        observed = (
            _sharers(cpu.cpuid, named.get(name), name)
            for cpu, named in zip(snapshot.cpus, per_cpu, strict=True)
        )
        yield merged_observation(observed, missing).fact(
            f"sharers_{name}", Layer.HARDWARE, f"logical CPUs that share the {name.upper()}"
        )


def _named(cpuid: CpuidTable) -> dict[str, Cache]:
    return {
        CACHE_NAMES[cache.level, cache.type]: cache
        for cache in caches(cpuid)
        if (cache.level, cache.type) in CACHE_NAMES
    }


def _wbinvd(cpuid: CpuidTable, cache: Cache | None, name: str) -> Observation:
    if cache is None:
        return _no_cache(cpuid, name)
    return observed_as(cache.wbinvd_guaranteed, f"{_leaf(cpuid, cache)} EDX[0]")


def _sharers(cpuid: CpuidTable, cache: Cache | None, name: str) -> Observation:
    if cache is None:
        return _no_cache(cpuid, name)
    return observed_as(cache.sharers, f"{_leaf(cpuid, cache)} EAX[25:14]")


def _leaf(cpuid: CpuidTable, cache: Cache) -> str:
    return f"CPUID {cache_leaf(cpuid) or 0:#010x} sub-leaf {cache.subleaf}"


def _no_cache(cpuid: CpuidTable, name: str) -> Observation:
    leaf = cache_leaf(cpuid)
    if leaf is None:
        return untold("this CPU has no leaf that describes its caches, or the dump lacks leaf 0")
    if cpuid.recorded(leaf) is None:
        return untold(f"CPUID leaf {leaf:#010x} is not recorded: {DUMP_AGAIN}")
    return untold(f"CPUID leaf {leaf:#010x} describes no {name.upper()}")

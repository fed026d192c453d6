# SPDX-License-Identifier: GPL-2.0-or-later
"""A slim snapshot tells every fact and every cost that the whole one tells, in 5 kB."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest

from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.hosts.snapshot_json import to_json
from staleline.evidence.snapshot import (
    CacheEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    LogEvidence,
    Snapshot,
)
from staleline.evidence.staleline_collect import (
    document_text,
    folded_lists,
    slim,
    unfolded_lists,
)
from staleline.facts import from_snapshot
from staleline.facts.capacity import cache_capacity
from staleline.fleet.profile import description_of
from tests.fleet.equality import some_hosts
from tests.properties.corpus import DATA, DUMPS, some_truth

_KB5 = 5000
#: Some of an EPYC 9004 under 6.12 (arch/x86/include/asm/cpufeatures.h), all that bear on facts.
FLAGS = "fpu vme de pse tsc msr pae mce cx8 apic monitor ssse3 sme sev sev_es wbnoinvd"


def slimmed(snapshot: Snapshot) -> tuple[Snapshot, str]:
    text = document_text(slim(to_json(snapshot)))
    return parse_snapshot(text, "a slim snapshot"), text


def values(snapshot: Snapshot) -> dict[str, object]:
    return {fact.name: fact.value for fact in from_snapshot(snapshot)}


@pytest.mark.parametrize("dump", DUMPS[:: len(DUMPS) // 40])
def test_every_fact_of_a_real_dump(dump):
    whole = read_snapshot(DATA / dump)
    small, _ = slimmed(whole)
    assert values(small) == values(whole)
    assert cache_capacity(small) == cache_capacity(whole)
    assert description_of(small).hardware == description_of(whole).hardware


def test_every_fact_of_whole_hosts():
    for name, text in some_hosts(40, seed=9).items():
        whole = parse_snapshot(text, name)
        small, _ = slimmed(whole)
        assert values(small) == values(whole)
        assert (description_of(small).values, description_of(small).registers) == (
            description_of(whole).values,
            description_of(whole).registers,
        )


def test_384_cpus_take_5_kb():
    """Two EPYC 9654, with the kernel's list of their caches, command line, log and flags.

    Threads of half of the cores are offline, so that no count stands for their list.
    """
    dump = read_snapshot(DATA / "full/amd-epyc-9654-96-core-processor-dual.test.xz")
    assert len(dump.cpus) == 384
    host = some_truth(Random(1)).snapshot()
    caches = (
        *(CacheEvidence(1, kind, 32 << 10, _pairs()) for kind in ("Data", "Instruction")),
        CacheEvidence(2, "Unified", 1 << 20, _pairs()),
        CacheEvidence(3, "Unified", 32 << 20, _of_a_complex()),
    )
    state = replace(host.state, offline_cpus=tuple(range(200, 384, 2)), sme_active=None)
    flags = CpuinfoEvidence("AuthenticAMD", 25, 17, 1, frozenset(FLAGS.split()))
    line = (
        "BOOT_IMAGE=/vmlinuz-6.12 root=UUID=8a2c1e1e-7d0c-44f7-9b6a-5d41a7f9f7d1 ro mem_encrypt=on "
        "console=ttyS0,115200n8 iommu=pt crashkernel=512M isolcpus=2-95,98-191 "
        "nohz_full=2-95,98-191"
    )
    kernel = KernelEvidence("6.12.117+deb13-amd64", line, host.kernel.config)
    log = LogEvidence(
        (
            "[    0.000000] Linux version 6.12.117+deb13-amd64 (gcc) #1 SMP PREEMPT_DYNAMIC",
            f"[    0.000000] Command line: {line}",
            "[    0.700000] Memory Encryption Features active: AMD SME",
            "[    1.200000] smp: Brought up 2 nodes, 384 CPUs",
        ),
        complete=False,
    )
    cpus = tuple(replace(cpu, msr=host.cpus[0].msr, number=n) for n, cpu in enumerate(dump.cpus))
    whole = Snapshot(
        cpus, host.host, host.collected, flags, kernel, state, host.notes, caches, host.modules, log
    )
    small, text = slimmed(whole)
    assert len(document_text(to_json(whole))) > 100_000
    assert len(text) <= _KB5, len(text)
    assert values(small) == values(whole)
    assert cache_capacity(small) == cache_capacity(whole)
    assert (small.caches, small.state) == (caches[2:], state)


def _pairs() -> tuple[str, ...]:
    return tuple(f"{n},{n + 192}" for n in range(192))


def _of_a_complex() -> tuple[str, ...]:
    return tuple(f"{n * 8}-{n * 8 + 7},{n * 8 + 192}-{n * 8 + 199}" for n in range(24))


@pytest.mark.parametrize(
    "lists",
    [
        _pairs(),
        _of_a_complex(),
        (),
        ("0",),
        ("0-383",),
        ("0-1", "2-3"),
        ("0", "2", "4", "6", "1", "3"),
        ("0-1", "2-3", "4-5", "6", "7", "8", "9"),
        ("0,4", "1,6", "2,5"),
        ("no list", "1 2"),
        ("7", "7", "7", "3"),
    ],
)
def test_lists_of_cpus_come_back_as_they_were(lists):
    folded = folded_lists(list(lists))
    assert tuple(unfolded_lists(folded)) == lists
    assert len(folded) <= len(lists)


def test_a_cpu_that_differs_is_told():
    whole = replace(some_truth(Random(2)).snapshot(), cpus=())
    cpu = some_truth(Random(2)).snapshot().cpus[0]
    other = replace(cpu, msr={**cpu.msr, 0xC000_0080: 17})
    several = replace(whole, cpus=(cpu, cpu, cpu, other, cpu))
    document = slim(to_json(several))
    assert len(document["cpus"]) == 3
    assert "0x0000000000000011" in json.dumps(document["cpus"][2])


def test_no_text_of_a_hostile_file_becomes_long() -> None:
    lists = ["0 +1*9999", *["0 +1*8000"] * 1000]
    assert len(unfolded_lists(lists)) < 10_000

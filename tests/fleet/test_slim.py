# SPDX-License-Identifier: GPL-2.0-or-later
"""A slim snapshot tells every fact and every cost that the whole one tells, in 5 kB."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import pytest

from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.hosts.snapshot_json import to_json
from staleline.evidence.snapshot import CacheEvidence, Snapshot
from staleline.evidence.staleline_collect import document_text, slim
from staleline.facts import from_snapshot
from staleline.facts.capacity import cache_capacity
from staleline.fleet.profile import description_of
from tests.fleet.equality import some_hosts
from tests.properties.corpus import DATA, DUMPS, some_truth

_KB5 = 5000


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
    """Two EPYC 9654, with the kernel's list of their caches, command line, log and flags."""
    dump = read_snapshot(DATA / "full/amd-epyc-9654-96-core-processor-dual.test.xz")
    assert len(dump.cpus) == 384
    host = some_truth(Random(1)).snapshot()
    caches = (
        *(CacheEvidence(1, kind, 32 << 10, _pairs()) for kind in ("Data", "Instruction")),
        CacheEvidence(2, "Unified", 1 << 20, _pairs()),
        CacheEvidence(3, "Unified", 32 << 20, tuple(f"{n * 8}-{n * 8 + 7}" for n in range(48))),
    )
    state = replace(host.state, online_cpus=384, offline_cpus=(), sme_active=None)
    cpus = tuple(replace(cpu, msr=host.cpus[0].msr, number=n) for n, cpu in enumerate(dump.cpus))
    whole = replace(host, cpus=cpus, caches=caches, cpuinfo=None, state=state, log=None)
    small, text = slimmed(whole)
    assert len(document_text(to_json(whole))) > 100_000
    assert len(text) <= _KB5, len(text)
    assert values(small) == values(whole)
    assert cache_capacity(small) == cache_capacity(whole)
    assert small.state.online_cpus == 384


def _pairs() -> tuple[str, ...]:
    return tuple(f"{n},{n + 192}" for n in range(192))


def test_a_cpu_that_differs_is_told():
    whole = replace(some_truth(Random(2)).snapshot(), cpus=())
    cpu = some_truth(Random(2)).snapshot().cpus[0]
    other = replace(cpu, msr={**cpu.msr, 0xC000_0080: 17})
    several = replace(whole, cpus=(cpu, cpu, cpu, other, cpu))
    document = slim(to_json(several))
    assert len(document["cpus"]) == 3
    assert "0x0000000000000011" in json.dumps(document["cpus"][2])

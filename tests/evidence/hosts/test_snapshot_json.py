# SPDX-License-Identifier: GPL-2.0-or-later
"""Snapshots survive being written and read, and are what the published schema says."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.errors import EvidenceError
from staleline.evidence.hosts.snapshot_json import parse, snapshot_text, to_json
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    TDX_MODULE_STATES,
    CacheEvidence,
    CpuEvidence,
    CpuinfoEvidence,
    KernelEvidence,
    LogEvidence,
    Note,
    Snapshot,
    StateEvidence,
    Statement,
)

SCHEMA: dict[str, Any] = json.loads(
    files("staleline").joinpath("schemas/snapshot-1.json").read_text("utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

_U32 = st.integers(0, 2**32 - 1)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_CPUS = st.lists(st.integers(0, 1000), max_size=3).map(tuple)
_SMALL = st.integers(0, 255)


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def _cpu(draw: st.DrawFn) -> CpuEvidence:
    leaves = draw(
        st.dictionaries(st.tuples(_U32, _SMALL), st.tuples(_U32, _U32, _U32, _U32), max_size=4)
    )
    msr = draw(st.dictionaries(_U32, st.integers(0, 2**64 - 1), max_size=3))
    faults = draw(st.frozensets(_U32, max_size=3)) - msr.keys()
    return CpuEvidence(CpuidTable(leaves), msr, faults, draw(_maybe(_SMALL)))


SNAPSHOTS = st.builds(
    Snapshot,
    # CPUs of a machine are alike: some are drawn several times.
    cpus=st.lists(_cpu(), max_size=3)
    .flatmap(lambda cpus: st.lists(st.sampled_from(cpus), max_size=6) if cpus else st.just([]))
    .map(tuple),
    host=_maybe(_TEXT),
    collected=_maybe(_TEXT),
    cpuinfo=_maybe(
        st.builds(
            CpuinfoEvidence,
            vendor=_maybe(st.sampled_from(["AuthenticAMD", "GenuineIntel", "  Shanghai  "])),
            family=_maybe(_SMALL),
            model=_maybe(_SMALL),
            stepping=_maybe(_SMALL),
            flags=st.frozensets(_TEXT, max_size=4),
            bugs=st.frozensets(_TEXT, max_size=2),
        )
    ),
    kernel=st.builds(
        KernelEvidence,
        release=_maybe(_TEXT),
        cmdline=_maybe(_TEXT),
        config=_maybe(st.dictionaries(_TEXT, _TEXT, max_size=3)),
        build_id=_maybe(_TEXT),
    ),
    state=st.builds(
        StateEvidence,
        sme_active=_maybe(st.booleans()),
        tdx_module=_maybe(st.sampled_from(TDX_MODULE_STATES)),
        seamcalled_cpus=_maybe(_CPUS),
        sev_guests_run=_maybe(st.booleans()),
        offline_cpus=_maybe(_CPUS),
        kexec_loaded=_maybe(st.integers(0, 1)),
        kexec_crash_loaded=_maybe(st.integers(0, 1)),
        kexec_crash_size=_maybe(st.integers(0, 1 << 40)),
        tsme=_maybe(st.booleans()),
        guest_ids_peak=_maybe(st.dictionaries(_TEXT, _SMALL, max_size=3)),
    ),
    notes=st.lists(st.builds(Note, what=_TEXT, why=_TEXT), max_size=2).map(tuple),
    caches=st.lists(
        st.builds(
            CacheEvidence,
            level=_SMALL,
            type=_TEXT,
            bytes=_SMALL,
            cpus=st.lists(_TEXT, max_size=3).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    modules=_maybe(st.dictionaries(_TEXT, st.dictionaries(_TEXT, _TEXT, max_size=2), max_size=2)),
    log=_maybe(
        st.builds(LogEvidence, lines=st.lists(_TEXT, max_size=3).map(tuple), complete=st.booleans())
    ),
)


@settings(max_examples=200, deadline=None)
@given(SNAPSHOTS)
def test_nothing_is_lost_and_the_schema_holds(snapshot: Snapshot) -> None:
    assert parse(snapshot_text(snapshot), "file") == snapshot
    VALIDATOR.validate(to_json(snapshot))


@pytest.mark.parametrize("vendor", ["REDACTED", "unknown", "x" * 12, ""])
def test_a_vendor_that_is_none_is_not_known(vendor: str) -> None:
    cpuinfo = CpuinfoEvidence(vendor=vendor, flags=frozenset({"sme"}))
    stated = Statement("vendor", vendor, "a tool")
    read = parse(snapshot_text(Snapshot(cpus=(), cpuinfo=cpuinfo, statements=(stated,))), "file")
    assert (read.cpuinfo, read.statements) == (replace(cpuinfo, vendor=None), ())


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"] == {"const": "staleline/snapshot/1"}


#: The example of a snapshot that people write by hand: null and absence mean unknown.
BY_HAND: dict[str, Any] = {
    "schema": "staleline/snapshot/1",
    "host": "node17",
    "collected": "2026-11-23T01:02:03Z",
    "cpus": [
        {
            "cpuid": {"0x80000000:0": ["0x8000001f", "0x68747541", "0x444d4163", "0x69746e65"]},
            "msr": {"0xc0010010": "0x0000000000f40000"},
        }
    ],
    "kernel": {"release": "6.12.107+deb13-amd64", "cmdline": "mem_encrypt=on quiet"},
    "state": {"sme_active": True, "seamcalled_cpus": None, "offline_cpus": [], "kexec_loaded": 1},
    "notes": [{"what": "msr", "why": "not root"}],
}


def test_a_snapshot_written_by_hand_may_leave_out_what_is_unknown() -> None:
    VALIDATOR.validate(BY_HAND)
    snapshot = parse(json.dumps(BY_HAND), "file")
    assert snapshot.cpus[0].msr == {0xC0010010: 0xF40000}
    assert snapshot.cpus[0].cpuid.max_extended_leaf == 0x8000001F
    assert snapshot.cpus[0].cpuid.vendor is None
    assert snapshot.kernel.config is None
    assert snapshot.state == StateEvidence(sme_active=True, offline_cpus=(), kexec_loaded=1)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("cpus", 0, "msr", "0xc0010010"), "16"),
        (("cpus", 0, "cpuid", "0x80000000:0"), ["0x0"]),
        (("state", "sme_active"), "yes"),
        (("state", "kexec_loaded"), True),
        (("kernel", "relase"), "6.12"),
        (("notes", 0, "why"), None),
        (("schema",), "staleline/snapshot/2"),
    ],
)
def test_reader_and_schema_refuse_the_same_mistakes(
    path: tuple[str | int, ...], value: object
) -> None:
    document = json.loads(json.dumps(BY_HAND))
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(EvidenceError, match=f"field .*{path[-1]}"):
        parse(json.dumps(document), "file")


def test_a_cpu_like_an_earlier_one_says_only_what_differs() -> None:
    row = ["0x1", "0x2", "0x3", "0x4"]
    first = {"cpuid": {"0x0:0": row, "0x1:0": row}, "msr": {"0x10": "0x7"}, "msr_faults": ["0x11"]}
    document = {
        "schema": "staleline/snapshot/1",
        "cpus": [
            {"cpu": 0, **first},
            {"cpu": 4, "like": 0, "cpuid": {"0x1:0": ["0x9"] * 4}},
            {"cpu": 8, "like": 1, "msr": {"0x10": "0x8"}, "msr_faults": []},
        ],
    }
    VALIDATOR.validate(document)
    machine = parse(json.dumps(document), "file")
    assert machine.cpus[1] == CpuEvidence(
        CpuidTable({(0, 0): (1, 2, 3, 4), (1, 0): (9, 9, 9, 9)}),
        {0x10: 7},
        frozenset({0x11}),
        number=4,
    )
    assert machine.cpus[2].cpuid == machine.cpus[1].cpuid
    assert machine.cpus[2].msr == {0x10: 8}
    assert machine.cpus[2].msr_faults == frozenset()


def test_cpus_of_one_machine_take_little_room() -> None:
    leaves = {(leaf, 0): (leaf, 1, 2, 3) for leaf in range(60)}
    cpus = tuple(
        CpuEvidence(CpuidTable({**leaves, (1, 0): (0, number, 0, 0)}), number=number)
        for number in range(256)
    )
    machine = Snapshot(cpus)
    text = snapshot_text(machine)
    assert len(text) < 200 * len(cpus)
    assert parse(text, "file") == machine

# SPDX-License-Identifier: GPL-2.0-or-later
"""Every dump of the corpus against its index, which another parser computed.

The index leaves a cell empty where the CPU lacks the leaf (or, for TME and PCONFIG, is not
Intel's); the facts then say that the hardware lacks the feature.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from staleline.evidence.detect import read_snapshot
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import Snapshot
from staleline.facts import MachineFacts, from_snapshot
from staleline.facts.caches import cache_leaf, caches

DATA = Path(__file__).parents[1] / "data" / "cpuid"

Row = dict[str, str]

_WITH_LEAF = {
    "sme": "sme",
    "sev": "sev",
    "sev_es": "sev_es",
    "sev_snp": "sev_snp",
    "hw_coherency_enforced": "coherency_enforced",
}
_BOOLEANS = {"tme_en": "tme", "pconfig": "pconfig", "wbnoinvd": "wbnoinvd"} | _WITH_LEAF
_NUMBERS = ("family", "model", "stepping")
_FIELDS_OF_8000001F = {"cbit_position", "phys_addr_reduction"}


def _rows() -> list[Row]:
    with (DATA / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


ROWS = _rows()
COMMITTED = [row for row in ROWS if not row["file"].startswith("libvirt/")]
OF_LIBVIRT = [row for row in ROWS if row["file"].startswith("libvirt/")]


def _name(row: Row) -> str:
    return Path(row["file"]).name.split(".")[0]


@pytest.mark.parametrize("row", COMMITTED, ids=_name)
def test_a_dump_gives_what_the_index_says(row: Row) -> None:
    snapshot = read_snapshot(DATA / row["file"])
    assert _cells(row, snapshot) == _indexed(row)


@pytest.mark.parametrize("row", OF_LIBVIRT, ids=_name)
def test_libvirt_cpu_data_gives_what_the_index_says(row: Row, libvirt_cpudata: Path) -> None:
    snapshot = read_snapshot(libvirt_cpudata / Path(row["source_path"]).name)
    assert _cells(row, snapshot) == _indexed(row)


def test_the_comparison_covers_the_index() -> None:
    assert len(ROWS) == 224
    assert sum(len(_indexed(row)) for row in ROWS) == CELLS


@pytest.mark.parametrize("row", COMMITTED, ids=_name)
def test_a_feature_whose_leaf_the_cpu_lacks_is_absent_not_unknown(row: Row) -> None:
    facts = from_snapshot(read_snapshot(DATA / row["file"]))
    lacking = [name for cell, name in _WITH_LEAF.items() if not row[cell] and row["max_ext_leaf"]]
    assert [facts.boolean(name) for name in lacking] == [False] * len(lacking)
    # A CPU that is not Intel's has no TME; one of Intel's without leaf 7 has none either.
    assert facts.boolean("tme") is (row["tme_en"] == "1")


def test_a_highest_leaf_that_was_not_dumped_leaves_the_unchecked_bit_unknown() -> None:
    facts = from_snapshot(read_snapshot(DATA / "libcpuid/11th-gen-intel-core-i5-1135g7.test"))
    assert facts.integer("max_basic_leaf") == 0x1B
    assert facts.boolean("unchecked_sme_bit") is None
    assert "0x8000001f is not recorded" in (facts["unchecked_sme_bit"].missing or "")


def _indexed(row: Row) -> Row:
    """The cells of the index that facts and evidence cover, without empty ones."""
    cells = {cell: value for cell, value in row.items() if cell in _COVERED and value != ""}
    if not row["highest_basic_leaf_eax"]:
        # The index takes a highest leaf that was not dumped for zeros; facts do not.
        cells.pop("phantom_sme_unchecked_read", None)
    return cells


def _cells(row: Row, snapshot: Snapshot) -> Row:
    """The same cells as this package reads them."""
    facts = from_snapshot(snapshot)
    found = dict(_of_facts(facts)) | dict(_of_evidence(row, snapshot))
    return {cell: found[cell] for cell in _indexed(row)}


def _of_facts(facts: MachineFacts) -> Iterator[tuple[str, str]]:
    yield "vendor", str(facts.text("vendor"))
    yield "signature", (facts.text("signature") or "").removeprefix("0x")
    yield "hypervisor_bit", _bit(facts.boolean("hypervisor"))
    for cell, leaf in (("max_basic_leaf", "max_basic_leaf"), ("max_ext_leaf", "max_extended_leaf")):
        yield cell, f"{facts.integer(leaf) or 0:08x}"
    yield "has_8000001f", _bit((facts.integer("max_extended_leaf") or 0) >= 0x8000_001F)
    for name in ("family", "stepping", *_FIELDS_OF_8000001F):
        yield name, str(facts.integer(name))
    yield "model", str(_model_by_the_sdm(facts))
    for cell, name in _BOOLEANS.items():
        yield cell, _bit(facts.boolean(name))
    yield "l80000023_eax", f"{facts.boolean('memhmk') or 0:08x}"
    yield "phantom_sme_unchecked_read", _bit(facts.boolean("unchecked_sme_bit"))


def _model_by_the_sdm(facts: MachineFacts) -> int:
    """The index adds the extended model for families 6 and 15 only, as Intel's SDM does.

    Facts follow Linux (arch/x86/lib/cpu.c x86_model()), which adds it from family 6 on and
    so shows 59 for Zhaoxin's family 7 where the index has 11.
    """
    model = facts.integer("model") or 0
    return model & 0xF if facts.integer("family") == 7 else model


def _of_evidence(row: Row, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    cpuid = snapshot.cpus[0].cpuid
    yield from _registers("l8000001f", cpuid, 0x8000_001F)
    yield from _registers("l7_0", cpuid, 7)
    yield "highest_basic_leaf_eax", f"{_highest_basic_eax(cpuid):08x}"
    yield "cache_leaf", f"{cache_leaf(cpuid) or 0:X}"
    yield (
        "wbinvd_bit_by_subleaf",
        ";".join(f"{cache.subleaf}:{int(not cache.wbinvd_guaranteed)}" for cache in caches(cpuid)),
    )
    # Trimmed dumps hold CPU 0 only: of them the index counts CPUs that are not there.
    whole = row["file"].startswith("full/")
    cpus = len(snapshot.cpus) if whole else int(row["logical_cpus_in_source"])
    yield "logical_cpus_in_source", str(cpus)
    yield "uniform_8000001f", _uniform(snapshot, 0x8000_001F)
    yield "uniform_7", _uniform(snapshot, 7)


def _registers(prefix: str, cpuid: CpuidTable, leaf: int) -> Iterator[tuple[str, str]]:
    registers = cpuid.recorded(leaf) or (0, 0, 0, 0)
    for name, register in zip(("eax", "ebx", "ecx", "edx"), registers, strict=True):
        yield f"{prefix}_{name}", f"{register:08x}"


def _highest_basic_eax(cpuid: CpuidTable) -> int:
    highest = cpuid.recorded(cpuid.max_basic_leaf or 0)
    return highest[0] if highest else 0


def _uniform(snapshot: Snapshot, leaf: int) -> str:
    return _bit(len({cpu.cpuid.recorded(leaf) for cpu in snapshot.cpus}) == 1)


def _bit(value: bool | None) -> str:
    return {None: "unknown", False: "0", True: "1"}[value]


_COVERED = frozenset(
    {"vendor", "signature", "hypervisor_bit", "logical_cpus_in_source", "max_basic_leaf"}
    | {"max_ext_leaf", "has_8000001f", "cache_leaf", "wbinvd_bit_by_subleaf", "l80000023_eax"}
    | {"highest_basic_leaf_eax", "phantom_sme_unchecked_read", "uniform_8000001f", "uniform_7"}
    | {f"{p}_{r}" for p in ("l8000001f", "l7_0") for r in ("eax", "ebx", "ecx", "edx")}
    | {*_NUMBERS, *_FIELDS_OF_8000001F, *_BOOLEANS}
)
#: Cells that are compared, so that a column cannot drop out unnoticed.
CELLS = 4766

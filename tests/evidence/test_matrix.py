# SPDX-License-Identifier: GPL-2.0-or-later
"""The same machine in every format gives the same facts; less evidence gives unknown ones.

Over every dump of tests/data/cpuid, written into each format by tests/evidence/writers.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.snapshot import CpuinfoEvidence, Snapshot
from staleline.facts import from_snapshot
from tests.evidence.writers import (
    COMPRESS,
    as_aida64,
    as_cpuid_tool,
    as_cpuinfo,
    as_libcpuid_raw,
    as_libvirt,
    as_lscpu,
    as_lscpu_json,
    as_nested_lscpu_json,
    as_tar,
)

DATA = Path(__file__).parents[1] / "data" / "cpuid"
DUMPS = sorted(
    str(path.relative_to(DATA))
    for folder in ("libcpuid", "full", "registers")
    for path in (DATA / folder).iterdir()
)
#: /proc/cpuinfo flag -> leaf, register, bit that Linux copies it from
#: (Linux 7.3 arch/x86/include/asm/cpufeatures.h).
FLAGS = {
    "ss": (1, 3, 27),
    "hypervisor": (1, 2, 31),
    "tme": (7, 2, 13),
    "movdir64b": (7, 2, 28),
    "pconfig": (7, 3, 18),
    "wbnoinvd": (0x80000008, 1, 9),
    "sme": (0x8000001F, 0, 0),
    "sev": (0x8000001F, 0, 1),
    "sev_es": (0x8000001F, 0, 3),
}

Values = dict[str, object]


def facts_of(machine: Snapshot) -> Values:
    return {fact.name: fact.value for fact in from_snapshot(machine)}


def facts_of_text(text: str) -> Values:
    return facts_of(parse_snapshot(text, "dump"))


def shown_by_linux(machine: Snapshot) -> CpuinfoEvidence | None:
    """What /proc/cpuinfo shows of `machine`; None for a CPU that names no vendor or family."""
    cpuid = machine.cpus[0].cpuid
    if cpuid.vendor is None or cpuid.family_model_stepping is None:
        return None
    flags = {"fpu"}
    for flag, (leaf, register, bit) in FLAGS.items():
        maximum = cpuid.max_extended_leaf if leaf >> 31 else cpuid.max_basic_leaf
        registers = cpuid.recorded(leaf)
        if maximum is not None and leaf <= maximum and registers is not None:
            flags |= {flag} if registers[register] >> bit & 1 else set()
    return CpuinfoEvidence(cpuid.vendor, *cpuid.family_model_stepping, frozenset(flags))


def no_fact_differs(less: Values, full: Values) -> bool:
    """Is every fact of `less` the same as in `full`, or unknown?"""
    return all(value is None or value == full[name] for name, value in less.items())


@pytest.mark.parametrize("dump", DUMPS)
def test_formats_that_carry_all_registers_give_all_facts(dump: str, tmp_path: Path) -> None:
    machine = read_snapshot(DATA / dump)
    full = facts_of(machine)
    for write in (as_cpuid_tool, as_aida64, snapshot_text):
        assert facts_of_text(write(machine)) == full, write.__name__
    first = Snapshot(machine.cpus[:1])
    assert facts_of_text(as_libvirt(first)) == facts_of(first)
    path = tmp_path / "machine.tar"
    path.write_bytes(as_tar({"dumps/cpuid.txt": as_cpuid_tool(machine)}))
    assert facts_of(read_snapshot(path)) == full


@pytest.mark.parametrize("dump", DUMPS)
def test_formats_that_carry_less_give_the_same_facts_or_unknown_ones(dump: str) -> None:
    machine = read_snapshot(DATA / dump)
    full = facts_of(machine)
    assert no_fact_differs(facts_of_text(as_libcpuid_raw(machine)), full)
    shown = shown_by_linux(machine)
    if shown is None:
        return
    # Linux shows the hardware's flags as they are where it supports and uses all of it;
    # then sme and sev also tell what firmware enabled.
    enabled = {"sme_enabled"} if {"sme", "sev"} & shown.flags else set()
    told = {
        "vendor": shown.vendor,
        "family": shown.family,
        "model": shown.model,
        "stepping": shown.stepping,
    }
    expected = {**full, **told, **dict.fromkeys(enabled, True)}
    of_cpuinfo = facts_of_text(as_cpuinfo(shown))
    assert no_fact_differs(of_cpuinfo, expected)
    assert of_cpuinfo["vendor"] == shown.vendor
    for write in (as_lscpu, as_lscpu_json, as_nested_lscpu_json):
        of_lscpu = facts_of_text(write(shown))
        assert of_lscpu.pop("offline_cpus") == ()
        assert of_lscpu == {n: v for n, v in of_cpuinfo.items() if n != "offline_cpus"}


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    "files",
    [
        lambda machine, shown: {"node/host.json": snapshot_text(machine)},
        lambda machine, shown: {"cpuid.txt": as_cpuid_tool(machine), "lscpu": as_lscpu(shown)},
        lambda machine, shown: {
            "sosreport-node/proc/cpuinfo": as_cpuinfo(shown),
            "sosreport-node/sos_commands/processor/cpuid_-r": as_cpuid_tool(machine),
            "sosreport-node/sos_commands/processor/lscpu": as_lscpu(shown),
        },
    ],
    ids=["snapshot", "loose files", "sosreport"],
)
def test_archives_give_the_facts_of_what_is_in_them(
    suffix: str,
    files: Callable[[Snapshot, CpuinfoEvidence], dict[str, str]],
    tmp_path: Path,
) -> None:
    machine = read_snapshot(DATA / "libcpuid/amd-epyc-7742-64-core-processor-dual.test")
    shown = shown_by_linux(machine)
    assert shown is not None
    path = tmp_path / f"machine.tar{suffix}"
    path.write_bytes(COMPRESS[suffix](as_tar(files(machine, shown))))
    found = facts_of(read_snapshot(path))
    known = {name: value for name, value in facts_of(machine).items() if value is not None}
    assert {name: found[name] for name in known} == known

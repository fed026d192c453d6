# SPDX-License-Identifier: GPL-2.0-or-later
"""One CPU only where all that counts them says so: nobody asks an overlooked one to flush."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.evidence.given import with_given
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import CpuEvidence, KernelEvidence, Snapshot, StateEvidence
from staleline.facts.processors import several_cpus

AMD: Registers = (0x10, 0x68747541, 0x444D4163, 0x69746E65)
INTEL: Registers = (0x20, 0x756E6547, 0x6C65746E, 0x49656E69)
#: CPUID 1 EDX[28]: EBX[23:16] counts logical CPUs (AMD APM volume 3, Intel SDM volume 2).
HTT = 1 << 28


def amd(threads: int, *, leaf_1: int | None = None) -> CpuidTable:
    counted = {} if leaf_1 is None else {(1, 0): (0, leaf_1 << 16, 0, HTT)}
    sizes = {(0x8000_0000, 0): (0x8000_0020, 0, 0, 0), (0x8000_0008, 0): (0, 0, threads - 1, 0)}
    return CpuidTable({(0, 0): AMD, **sizes, **counted})


def intel(*levels: tuple[int, int], leaf: int = 0xB) -> CpuidTable:
    """Levels of the topology: (type, logical CPUs up to it)."""
    topology = {(leaf, n): (0, count, kind << 8 | n, 0) for n, (kind, count) in enumerate(levels)}
    return CpuidTable({(0, 0): INTEL, **topology, (leaf, len(levels)): (0, 0, len(levels), 0)})


def machine(*tables: CpuidTable, **state: object) -> Snapshot:
    seen = StateEvidence(**state)  # type: ignore[arg-type]
    kernel = KernelEvidence(cmdline="ro quiet")
    return Snapshot(tuple(CpuEvidence(table) for table in tables), kernel=kernel, state=seen)


def told(snapshot: Snapshot, cmdline: str | None) -> Snapshot:
    return replace(snapshot, kernel=KernelEvidence(cmdline=cmdline))


ALONE = {"online_cpus": 1, "offline_cpus": ()}


@pytest.mark.parametrize(
    ("table", "threads"),
    [
        (amd(1), 1),
        (amd(128), 128),
        # An EPYC 9965 with SMT: more than eight bits hold.
        (amd(384), 384),
        (intel((1, 2), (2, 72)), 72),
        # Leaf 0x1F counts dies and modules, which 0xB leaves out (Intel SDM volume 2, CPUID).
        (intel((1, 2), (2, 16), (5, 64), leaf=0x1F), 64),
        (CpuidTable({(0, 0): INTEL}), None),
        (CpuidTable({}), None),
    ],
)
def test_how_many_logical_cpus_a_socket_has(table: CpuidTable, threads: int | None) -> None:
    assert table.threads_per_socket == threads


@pytest.mark.parametrize(
    "snapshot",
    [
        machine(amd(1), amd(1)),
        machine(amd(2)),
        machine(amd(1, leaf_1=4)),
        machine(amd(1), online_cpus=2),
        machine(amd(1), online_cpus=1, offline_cpus=(1,)),
        # nr_cpus=1 keeps Linux from using the others; CPUID still counts them.
        machine(amd(16), **ALONE),
    ],
)
def test_any_witness_of_a_second_one_is_enough(snapshot: Snapshot) -> None:
    assert several_cpus(snapshot).value is True


def test_one_only_where_kernel_and_cpuid_agree() -> None:
    fact = several_cpus(machine(amd(1), **ALONE))
    assert fact.value is False
    assert fact.source == "/sys/devices/system/cpu/{present,online}, /proc/cmdline and CPUID"


@pytest.mark.parametrize(
    "snapshot",
    [
        # A dump of one CPU may be of one that was read for all.
        machine(amd(1)),
        machine(CpuidTable({(0, 0): AMD}), **ALONE),
        machine(amd(1), online_cpus=1),
        machine(amd(1), offline_cpus=()),
        machine(**ALONE),
        machine(),
    ],
)
def test_less_than_that_leaves_it_open_and_says_what_to_read(snapshot: Snapshot) -> None:
    fact = several_cpus(snapshot)
    assert fact.value is None
    assert "/sys/devices/system/cpu/present" in (fact.missing or "")


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from((None, 1, 2)),
    st.sampled_from((None, (), (1,))),
)
def test_less_evidence_never_turns_one_answer_into_the_other(
    threads: int, dumped: int, online: int | None, offline: tuple[int, ...] | None
) -> None:
    if online is not None and offline is not None:
        dumped = min(dumped, online + len(offline))  # a kernel shows CPUID of those that it counts
    whole = machine(*[amd(threads)] * dumped, online_cpus=online, offline_cpus=offline)
    known = several_cpus(whole).value
    for less in (
        replace(whole, cpus=whole.cpus[:1]),
        replace(whole, cpus=()),
        replace(whole, state=StateEvidence()),
        told(whole, None),
    ):
        assert several_cpus(less).value in (known, None)


#: linux 7.3.4 kernel/smp.c:1074-1098, arch/x86/kernel/cpu/topology.c:424-428,570.
LEFT_OUT = ["nr_cpus=1", "possible_cpus=1", "nosmp", "maxcpus=0", "nolapic", "acpi=off"]


@pytest.mark.parametrize("word", LEFT_OUT)
def test_what_the_kernel_counts_says_nothing_of_cpus_that_it_leaves_out(word: str) -> None:
    for snapshot in (
        told(machine(amd(1), **ALONE), f"ro {word}"),
        with_given(Snapshot(cpus=()), state=["cpus=0"], cmdline=f"ro {word}"),
    ):
        fact = several_cpus(snapshot)
        assert fact.value is None
        assert word in (fact.missing or "")
        settled = with_given(snapshot, state=["cpus=1"])
        assert several_cpus(settled).value is False
        assert several_cpus(with_given(snapshot, state=["cpus=2"])).value is True


@pytest.mark.parametrize("line", ["ro", "maxcpus=1", "ro -- nr_cpus=1", "acpi=force"])
def test_other_words_leave_no_cpu_out_of_the_list(line: str) -> None:
    assert several_cpus(told(machine(amd(1), **ALONE), line)).value is False
    given_list = with_given(Snapshot(cpus=()), state=["cpus=0"], cmdline=line)
    assert several_cpus(given_list).value is False


def test_without_the_command_line_the_kernels_list_is_not_the_machines() -> None:
    for snapshot in (
        told(machine(amd(1), **ALONE), None),
        with_given(Snapshot(cpus=()), state=["cpus=0"]),
    ):
        fact = several_cpus(snapshot)
        assert fact.value is None
        assert "--cmdline" in (fact.missing or "")

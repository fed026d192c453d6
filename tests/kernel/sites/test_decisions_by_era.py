# SPDX-License-Identifier: GPL-2.0-or-later
"""Real kernels on real CPUs do what the source of their series says."""

from __future__ import annotations

import pytest

from staleline.kernel.boot.decision import Decision, RawMachine
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import ReportOrder
from tests.kernel.eras import ERA_OF_SERIES, Era, sme_active
from tests.kernel.machines import (
    DUMPS,
    MEM_ENCRYPT_ENABLED,
    SYSCFG,
    corpus,
    cpuid,
    every_setting,
    facts_of,
    with_leaf,
)


@pytest.fixture(scope="module")
def reader(real_kernel) -> KernelReader:
    return KernelReader(real_kernel.image)


@pytest.fixture
def era(real_kernel) -> Era:
    return ERA_OF_SERIES[real_kernel.series]


Answer = tuple[bool | None, bool | None, bool | None, ReportOrder | None]


def answer(decision: Decision) -> Answer:
    return (
        decision.stop_this_cpu.flushes,
        decision.relocate_kernel.flushes,
        decision.sme_active,
        decision.reported_stopped,
    )


def expected(era: Era, machine: RawMachine) -> Answer:
    facts = facts_of(machine)
    flushes = era.stop_this_cpu(facts)
    return (
        flushes,
        era.relocate_kernel(facts),
        sme_active(facts),
        era.reported_stopped if flushes else None,
    )


@pytest.mark.parametrize("name", DUMPS)
def test_every_setting_of_a_machine(reader, era, name):
    settings = list(every_setting(cpuid(name)))
    got = {facts_of(machine): answer(reader.decide(machine)) for machine in settings}
    assert got == {facts_of(machine): expected(era, machine) for machine in settings}


@pytest.mark.parametrize("series", ["5.10", "6.17", "7"])
def test_every_dump_of_the_corpus(real_kernels, series):
    """Kernels identify CPUs from 1995 to 2025 without running into anything unmodelled.

    Three CPUs are unknown: their dumps do not even hold leaf 0x80000000.
    """
    reader, era = KernelReader(real_kernels[series].image), ERA_OF_SERIES[series]
    incomplete = set()
    for name, table in corpus():
        machine = RawMachine(table, table, {SYSCFG: MEM_ENCRYPT_ENABLED}, True)
        decision = reader.decide(machine)
        if table.max_extended_leaf is None:
            assert "CPUID leaf 0x80000000 of CPU 0" in (decision.stop_this_cpu.unknown or "")
            incomplete.add(name)
        elif "hv_vmbus" in (decision.stop_this_cpu.unknown or ""):
            # In a guest of Hyper-V a module's handlers run first (drivers/hv/vmbus_drv.c); an
            # image that has it built in is read.
            assert table.leaves[0x40000000, 0][1].to_bytes(4, "little") == b"Micr", name
        else:
            assert answer(decision) == expected(era, machine), name
    assert incomplete == {"amd-k5-pr75", "amd-k5-pr100", "intel-pentium-iii-katmai-dual"}


def test_the_machines_reach_every_answer_of_the_series(era):
    """The table above would prove little if one answer covered it."""
    answers = {
        expected(era, machine)[:2] for name in DUMPS for machine in every_setting(cpuid(name))
    }
    both_alike = era.stop_this_cpu is era.relocate_kernel
    assert answers >= ({(True, True), (False, False)} | (set() if both_alike else {(True, False)}))


def test_hygon_with_sme_active(reader, real_kernel):
    """Since 6.18 no code sets the flag on Hygon, while ``sme_enable()`` takes any vendor."""
    table = cpuid("Hygon C86 3250")
    decision = reader.decide(RawMachine(table, table, {SYSCFG: MEM_ENCRYPT_ENABLED}, True))
    before_6_18 = real_kernel.series in {"5.10", "6.1", "6.12", "6.16", "6.17"}
    assert decision.sme_active is True
    assert decision.stop_this_cpu.flushes is before_6_18
    assert decision.relocate_kernel.flushes is before_6_18


def test_a_secondary_without_sme(reader, real_kernel):
    """Where the flag is looked up decides whose CPUID counts.

    5.10 ANDs the capabilities of all CPUs into ``boot_cpu_data`` (cpu/common.c:1865, as in
    7.3); 6.1 to 6.17 ask the secondary's own CPUID; since 6.18 the boot CPU sets its flag
    before ``setup_per_cpu_areas()`` copies the initial area to every CPU.
    """
    jumping = cpuid("Rome")
    _, ebx, ecx, edx = jumping.leaves[0x8000_001F, 0]
    secondary = with_leaf(jumping, 0x8000_001F, (0, ebx, ecx, edx))
    machine = RawMachine(jumping, secondary, {SYSCFG: MEM_ENCRYPT_ENABLED}, True)
    decision = reader.decide(machine)
    assert decision.relocate_kernel.flushes is True
    copied = ERA_OF_SERIES[real_kernel.series].reported_stopped is ReportOrder.AFTER_FLUSH and (
        real_kernel.series not in {"6.1", "6.12", "6.16", "6.17"}
    )
    assert decision.stop_this_cpu.flushes is copied


def test_the_record_says_what_was_asked(reader):
    table = cpuid("Rome")
    decision = reader.decide(RawMachine(table, table, {SYSCFG: MEM_ENCRYPT_ENABLED}, True))
    assert {0x0, 0x1, 0x7, 0x8000_0000, 0x8000_0001, 0x8000_001F} <= decision.leaves_read
    assert SYSCFG in decision.msrs_read
    assert decision.traps > len(decision.leaves_read) + len(decision.msrs_read)


def test_a_reader_keeps_nothing_of_the_machine_before(reader):
    """Any order of machines gives the same answers."""
    machines = [
        machine for name in ("K8", "Rome", "Nehalem") for machine in every_setting(cpuid(name))
    ]
    forward = [answer(reader.decide(machine)) for machine in machines]
    backward = [answer(reader.decide(machine)) for machine in reversed(machines)]
    assert forward == backward[::-1]

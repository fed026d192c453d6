# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel with one instruction changed: the cells that depend on it change, or are unknown.

What must never happen is a confident answer that the changed code does not give.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from staleline.kernel.boot.decision import Decision, RawMachine
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import ReportOrder
from tests.kernel.eras import ERA_OF_SERIES, ERAS
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, Facts, cpuid, facts_of
from tests.kernel.mutate import find_guard, instructions, patched
from tests.sampling import EXHAUSTIVE, every

MACHINES = {
    name: RawMachine(cpuid(dump), cpuid(dump), {SYSCFG: MEM_ENCRYPT_ENABLED * enabled}, on)
    for name, dump, enabled, on in [
        ("Rome, SME active", "Rome", 1, True),
        ("Rome, SME off", "Rome", 1, False),
        ("Rome, not enabled", "Rome", 0, False),
        ("Hygon, SME active", "Hygon C86 3250", 1, True),
        ("K8", "K8", 0, True),
        ("Nehalem", "Nehalem", 0, True),
    ]
}
ROME = MACHINES["Rome, SME active"]
K8 = MACHINES["K8"]


@dataclass(frozen=True)
class Kernel:
    series: str
    image: KernelImage


@pytest.fixture(scope="module", params=ERAS)
def kernel(request, real_kernels) -> Kernel:
    return Kernel(request.param, real_kernels[request.param].image)


def decide(image: KernelImage, machine: RawMachine) -> Decision:
    return KernelReader(image).decide(machine)


def cells(image: KernelImage) -> dict[str, tuple[bool | None, bool | None]]:
    """Both sites on every machine."""
    reader = KernelReader(image)
    decisions = {name: reader.decide(machine) for name, machine in MACHINES.items()}
    return {
        name: (decision.stop_this_cpu.flushes, decision.relocate_kernel.flushes)
        for name, decision in decisions.items()
    }


def reaches_last_condition(series: str, facts: Facts) -> bool:
    """6.1 to 6.17 look at the highest leaf first (arch/x86/kernel/process.c:839, 6.12)."""
    return facts.leaf or series != "6.12"


def changed(change: str, before: bool, reached: bool) -> bool:
    if not reached:
        return before
    return {"never": False, "no_flush": False, "always": True, "inverted": not before}[change]


CHANGES = ["never", "no_flush", "always", "inverted"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_guard_of_stop_this_cpu(kernel, change):
    era = ERA_OF_SERIES[kernel.series]
    mutant = patched(kernel.image, *getattr(find_guard(kernel.image, "stop_this_cpu"), change))
    want = {}
    for name, machine in MACHINES.items():
        facts = facts_of(machine)
        reached = reaches_last_condition(kernel.series, facts)
        want[name] = (
            changed(change, era.stop_this_cpu(facts), reached),
            era.relocate_kernel(facts),
        )
    assert cells(mutant) == want


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_guard_of_relocate_kernel(kernel, change):
    era = ERA_OF_SERIES[kernel.series]
    mutant = patched(kernel.image, *getattr(find_guard(kernel.image, "identity_mapped"), change))
    want = {}
    for name, machine in MACHINES.items():
        facts = facts_of(machine)
        flushes = changed(change, era.relocate_kernel(facts), reached=True)
        want[name] = (era.stop_this_cpu(facts), flushes)
    assert cells(mutant) == want


#: Code that must not be run over: a BUG, a breakpoint, an endless loop, a jump to nowhere,
#: an instruction that is not modelled (RDPMC), a privileged one in a form that is not
#: (WBNOINVD), a division by zero, and an early halt.
OBSTACLES = {
    "ud2": b"\x0f\x0b",
    "int3": b"\xcc",
    "endless loop": b"\xeb\xfe",
    "jump to 0": b"\x31\xc0\xff\xe0",
    "rdpmc": b"\x0f\x33",
    "wbnoinvd": b"\xf3\x0f\x09",
    "division by 0": b"\x31\xc9\xf7\xf1",
    "hlt": b"\xf4",
}
STEPS = ["sme_enable", "early_cpu_init", "identify_cpu", "identify_secondary_cpu"]


def own_name(image: KernelImage, function: str) -> str:
    """Startup code is linked as ``__pi_`` since 6.18."""
    return function if function in image.symbols else f"__pi_{function}"


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("step", STEPS)
def test_an_obstacle_in_the_derivation_makes_both_sites_unknown(kernel, step, obstacle):
    name = own_name(kernel.image, step)
    address = kernel.image.symbols.address(name)
    decision = decide(patched(kernel.image, address, OBSTACLES[obstacle]), K8)
    for site in (decision.stop_this_cpu, decision.relocate_kernel):
        assert site.flushes is None
        assert "did not return" in (site.unknown or "")
        if obstacle != "jump to 0":
            assert f" at {name}+0x" in (site.unknown or "")
    assert decision.reported_stopped is None
    assert decision.sme_active is None


@pytest.mark.parametrize("obstacle", sorted(OBSTACLES.keys() - {"hlt"}))
def test_an_obstacle_in_stop_this_cpu(kernel, obstacle):
    """Not a HLT: a CPU that halts there without a flush has indeed not flushed."""
    address = kernel.image.symbols.address("stop_this_cpu")
    decision = decide(patched(kernel.image, address, OBSTACLES[obstacle]), K8)
    assert decision.stop_this_cpu.flushes is None
    assert "did not reach its end: " in (decision.stop_this_cpu.unknown or "")
    assert decision.relocate_kernel.flushes is False


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("function", ["machine_kexec", "identity_mapped"])
def test_an_obstacle_on_the_way_to_the_next_kernel(kernel, function, obstacle):
    address = kernel.image.symbols.address(function)
    decision = decide(patched(kernel.image, address, OBSTACLES[obstacle]), K8)
    assert decision.relocate_kernel.flushes is None
    assert "did not reach its end: " in (decision.relocate_kernel.unknown or "")
    assert decision.stop_this_cpu.flushes is False


@pytest.mark.parametrize(
    ("function", "site"),
    [("stop_this_cpu", "stop_this_cpu"), ("identity_mapped", "relocate_kernel")],
)
def test_a_flush_without_the_end_is_unknown_too(kernel, function, site):
    flush = find_guard(kernel.image, function).flush
    mutant = patched(kernel.image, flush.address + len(flush.code), OBSTACLES["int3"])
    found = getattr(decide(mutant, ROME), site)
    assert found.flushes is None
    assert "(after 1 WBINVD)" in found.unknown


@pytest.mark.parametrize("name", ["Rome, SME active", "K8"])
def test_a_breakpoint_on_any_instruction_of_stop_this_cpu(kernel, name):
    """Either it was not executed and nothing changes, or it is seen and named."""
    machine = MACHINES[name]
    original = decide(kernel.image, machine)
    seen = 0
    tried = every(3, instructions(kernel.image, "stop_this_cpu"))
    for instruction in tried:
        decision = decide(patched(kernel.image, instruction.address, b"\xcc"), machine)
        assert decision.relocate_kernel == original.relocate_kernel
        if decision.stop_this_cpu == original.stop_this_cpu:
            continue
        assert decision.stop_this_cpu.flushes is None
        assert "int3 at stop_this_cpu+0x" in (decision.stop_this_cpu.unknown or "")
        seen += 1
    assert seen > (10 if EXHAUSTIVE else 3)


def test_a_derivation_that_halts_elsewhere_is_no_stop(kernel):
    """A CPU that hangs in a function called by ``stop_this_cpu()`` has not stopped."""
    address = kernel.image.symbols.address("mcheck_cpu_clear")
    decision = decide(patched(kernel.image, address, OBSTACLES["hlt"]), ROME)
    assert decision.stop_this_cpu.flushes is None
    assert "halted at mcheck_cpu_clear+0x" in (decision.stop_this_cpu.unknown or "")


def test_a_secondary_that_reports_itself_before_its_flush(kernel):
    """As before commit 1f5e7eb7868e: planted where ``stop_this_cpu()`` calls on its way."""
    mask = kernel.image.symbols.address("cpus_stop_mask")
    address = kernel.image.symbols.address("mcheck_cpu_clear")
    if mask is None:
        assert ERA_OF_SERIES[kernel.series].reported_stopped is ReportOrder.BEFORE_FLUSH
        mask = kernel.image.symbols.address("__cpu_online_mask")
    displacement = (mask - address - 8) & 0xFFFF_FFFF
    clear_bit_1 = b"\xf0\x80\x25" + displacement.to_bytes(4, "little") + b"\xfd"
    decision = decide(patched(kernel.image, address, clear_bit_1 + b"\xc3"), ROME)
    assert decision.stop_this_cpu.flushes is True
    assert decision.reported_stopped is ReportOrder.BEFORE_FLUSH


def test_a_secondary_that_never_reports_itself(kernel):
    """It flushes, but when others take it for stopped cannot be said."""
    address, report = next(
        (instruction.address, instruction.code)
        for function in ("stop_this_cpu", "set_cpu_online")
        for instruction in instructions(kernel.image, function)
        if instruction.mnemonic.split()[-1] in {"btr", "and"} and "lock" in instruction.mnemonic
    )
    decision = decide(patched(kernel.image, address, b"\x90" * len(report)), ROME)
    assert decision.stop_this_cpu.flushes is True
    assert decision.reported_stopped is None

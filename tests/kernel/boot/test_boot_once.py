# SPDX-License-Identifier: GPL-2.0-or-later
"""An equal machine is booted once by an image, and what that left is what another boot leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.kernel.boot.decision import RawMachine
from staleline.kernel.boot.machine import EmulatedMachine, two_cpus
from staleline.kernel.boot.rawfacts import ENCRYPTING_HOST, INTEL_HOST
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.boot.startup import boot, boot_once
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.emulator import Emulator
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.interrupts import interrupts_of
from tests.kernel.mutate import patched
from tests.kernel.places import address_of

ENCRYPTING, INTEL = raw_machine(ENCRYPTING_HOST), raw_machine(INTEL_HOST)
_UD2 = b"\x0f\x0b"


@pytest.fixture
def image(real_kernels) -> KernelImage:
    """No boot of it is known yet."""
    return replace(real_kernels["6.12"].image)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where code was run, so far."""
    begun: list[int] = []
    run = Emulator.run

    def noted(self, function, arguments, **terms):
        begun.append(function)
        return run(self, function, arguments, **terms)

    monkeypatch.setattr(Emulator, "run", noted)
    return begun


def left_by(image: KernelImage, machine: RawMachine) -> tuple[object, ...]:
    """By a boot, on an emulated machine of its own: memory, and all of both CPUs."""
    emulated, cpus = EmulatedMachine(image), two_cpus(machine, LogicalCpu)
    boot_once(emulated, machine, cpus)
    return all_of(emulated, cpus)


def all_of(emulated: EmulatedMachine, cpus: tuple[LogicalCpu, LogicalCpu]) -> tuple[object, ...]:
    memory = emulated.memory
    regions = [(region, region.content[:]) for _, region, _ in memory.windows()]
    parts = [(cpu.number, cpu.gs_base, cpu.traps, cpu.kept, cpu.record) for cpu in cpus]
    others = [(cpu.msrs_read, cpu.leaves_read, cpu.leaves_missing, cpu.flushes) for cpu in cpus]
    return [content for _, content in regions], parts, others


def test_the_second_boot_runs_nothing_and_leaves_the_same(image, runs):
    first = left_by(image, ENCRYPTING)
    assert runs
    runs.clear()
    assert left_by(image, ENCRYPTING) == first
    assert runs == []


def test_it_leaves_what_a_boot_leaves_that_is_run(image):
    left_by(image, INTEL)
    emulated, cpus = EmulatedMachine(image), two_cpus(INTEL, LogicalCpu)
    emulated.start_over()
    boot(emulated, cpus, mem_encrypt=INTEL.mem_encrypt)
    assert left_by(image, INTEL) == all_of(emulated, cpus)


def test_memory_that_something_else_has_run_in_is_as_after_the_boot(image):
    first = left_by(image, ENCRYPTING)
    emulated, cpus = EmulatedMachine(image), two_cpus(INTEL, LogicalCpu)
    boot_once(emulated, INTEL, cpus)
    cpus = two_cpus(ENCRYPTING, LogicalCpu)
    boot_once(emulated, ENCRYPTING, cpus)
    assert all_of(emulated, cpus) == first


def test_what_a_cpu_does_then_changes_no_later_boot(image):
    first = left_by(image, ENCRYPTING)
    cpus = two_cpus(ENCRYPTING, LogicalCpu)
    boot_once(EmulatedMachine(image), ENCRYPTING, cpus)
    cpus[0].write_msr(0x1234, 1)
    cpus[0].execute_cpuid(0x1234, 0)
    cpus[0].flushes.append(0)
    assert left_by(image, ENCRYPTING) == first


@pytest.mark.parametrize(
    "other", [INTEL, replace(ENCRYPTING, mem_encrypt=not ENCRYPTING.mem_encrypt)]
)
def test_another_machine_is_booted(image, runs, other):
    first = left_by(image, ENCRYPTING)
    runs.clear()
    assert left_by(image, other) != first
    assert runs


def test_another_image_is_booted(image):
    left_by(image, ENCRYPTING)
    broken = patched(image, address_of(image, "identify_cpu"), _UD2)
    with pytest.raises(DerivationError, match="did not return"):
        left_by(broken, ENCRYPTING)


def test_a_boot_that_fails_fails_again(image):
    broken = patched(image, address_of(image, "identify_cpu"), _UD2)
    for _ in range(2):
        with pytest.raises(DerivationError, match="did not return"):
            left_by(broken, ENCRYPTING)


def test_where_interrupts_lead_is_found_out_once_for_an_image(image, runs):
    emulated = EmulatedMachine(image)
    emulated.start_over()
    found = interrupts_of(emulated)
    assert runs
    runs.clear()
    other = EmulatedMachine(image)
    other.start_over()
    assert interrupts_of(other) == found
    assert runs == []

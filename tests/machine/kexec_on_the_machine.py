# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's 6.12 from encryption on to off, with its flushes and without one of them.

Not run by default, as each takes minutes of CPU time: ``make machine-test``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.kernel.image.assembly import load_image
from staleline.kernel.inventory.inventory import wbinvd_inventory
from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.execution import CpuModel, Ending, RunBounds
from staleline.simulation.experiment import Experiment, run_experiment
from staleline.simulation.medium import boot_image
from staleline.simulation.observation import RunOutcome, SeenRun
from staleline.simulation.skipping import skipped_flush
from staleline.vocabulary import Site
from tests.conftest import RealKernel
from tests.simulation.cpus import cpuid_of

BOUNDS = RunBounds(seconds=3600)


def seen(
    kernel: Path, emulator: BuiltMachine, folder: Path, caches: dict[str, str | int]
) -> SeenRun:
    image = boot_image(kernel)
    experiment = Experiment(
        kernel=image, following=image, next_command_line="mem_encrypt=off", caches=caches
    )
    return run_experiment(experiment, emulator, folder, BOUNDS)


def place_of(function: str, kernel: Path) -> int:
    (place,) = (
        place.address
        for place in wbinvd_inventory(load_image(kernel)).places
        if place.function == function
    )
    return place


@pytest.fixture
def kernel(real_kernels: dict[str, RealKernel]) -> Path:
    return real_kernels["6.12"].path


def test_flushes_are_observed_where_they_are_read(
    kernel: Path, emulator: BuiltMachine, tmp_path: Path
) -> None:
    observed = seen(kernel, emulator, tmp_path, {})
    assert observed.ending is Ending.POWERED_OFF, observed.last_lines
    assert (observed.outcome, len(observed.up)) == (RunOutcome.CLEAN, 2)
    assert observed.counts["invariants_broken"] == 0
    assert observed.cpuid == cpuid_of(CpuModel.ROME)

    # The secondary flushes in stop_this_cpu, the jumping CPU in the copy of relocate_kernel.
    stop = place_of("stop_this_cpu", kernel)
    relocation, handover = observed.handovers
    flushes = [(flush.at.cpu, flush.at.rip) for flush in observed.flushes]
    assert flushes.count((1, stop)) == 2  # before the jump, and before power-off
    page = place_of("identity_mapped", kernel) & 0xFFF
    assert any(cpu == 0 and rip < 1 << 47 and rip & 0xFFF == page for cpu, rip in flushes)
    assert relocation.caches[0].dirty["C-bit"] > 0
    assert [cache.dirty["C-bit"] for cache in handover.caches] == [0, 0]


def test_a_flush_that_is_left_out_is_missed(
    kernel: Path, emulator: BuiltMachine, tmp_path: Path
) -> None:
    skip = skipped_flush(load_image(kernel), Site.STOP_THIS_CPU)
    observed = seen(kernel, emulator, tmp_path, {"skip_wbinvd": skip})
    assert "skipped" in {flush.instruction for flush in observed.flushes}
    assert observed.handovers[-1].caches[1].dirty["C-bit"] > 0
    assert observed.outcome is RunOutcome.DESTROYED

# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's 6.12 from encryption on to off, with its flushes and without one of them.

Not run by default, as each takes minutes of CPU time: ``make machine-test``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.boot_medium import BootChain
from tools.build_machine import Emulator
from tools.observe_kexec import Observation, observe
from tools.simulated_machine import Bounds, Configuration, Ending

from staleline.kernel.image.assembly import load_image
from staleline.kernel.inventory.inventory import wbinvd_inventory
from tests.conftest import RealKernel

BOUNDS = Bounds(seconds=3600)
COMMAND_LINE = "console=ttyS0,115200 nokaslr no_timer_check panic=-1"


def seen(
    kernel: Path, emulator: Emulator, folder: Path, caches: dict[str, str | int]
) -> Observation:
    chain = BootChain(
        kernel=kernel,
        command_line=f"{COMMAND_LINE} mem_encrypt=on",
        next_kernel=kernel,
        next_command_line=f"{COMMAND_LINE} mem_encrypt=off",
    )
    return observe(chain, Configuration(caches=caches), emulator, folder, BOUNDS)


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
    kernel: Path, emulator: Emulator, tmp_path: Path
) -> None:
    observed = seen(kernel, emulator, tmp_path, {})
    assert observed.ending is Ending.POWERED_OFF, observed.last_lines
    assert (observed.destroyed, observed.worked, len(observed.up)) == (0, True, 2)
    assert observed.summary["invariants_broken"] == 0

    # The secondary flushes in stop_this_cpu, the jumping CPU in the copy of relocate_kernel.
    stop = place_of("stop_this_cpu", kernel)
    relocation, handover = observed.handovers
    flushes = [(flush["cpu"], int(flush["rip"], 16)) for flush in observed.flushes]
    assert flushes.count((1, stop)) == 2  # before the jump, and before power-off
    page = place_of("identity_mapped", kernel) & 0xFFF
    assert any(cpu == 0 and rip < 1 << 47 and rip & 0xFFF == page for cpu, rip in flushes)
    assert relocation.caches[0]["dirty"]["C-bit"] > 0
    assert [cache["dirty"]["C-bit"] for cache in handover.caches] == [0, 0]


def test_a_flush_that_is_left_out_is_missed(
    kernel: Path, emulator: Emulator, tmp_path: Path
) -> None:
    skip = f"{place_of('stop_this_cpu', kernel):x}@1"
    observed = seen(kernel, emulator, tmp_path, {"skip_wbinvd": skip})
    assert "skipped" in {flush["instruction"] for flush in observed.flushes}
    assert observed.handovers[-1].caches[1]["dirty"]["C-bit"] > 0
    assert observed.destroyed > 0
    assert observed.status == 2

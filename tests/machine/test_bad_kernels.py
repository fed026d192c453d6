# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels that come to nothing: a bounded run, and never called clean."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.execution import Ending, RunBounds
from staleline.simulation.experiment import Experiment, run_experiment
from staleline.simulation.medium import BootImage, MemoryImage
from staleline.simulation.observation import RunOutcome

AT = 16 << 20
HANG = bytes.fromhex("ebfe")
SAYS = b"".join(bytes.fromhex(f"baf8030000b0{letter:02x}ee") for letter in b"late\n")


def kernel(code: bytes) -> BootImage:
    return BootImage(code, bytes(0x260), MemoryImage(AT, code.ljust(4096, b"\xf4")), AT)


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (HANG, Ending.TIME),
        (SAYS + HANG, Ending.TIME),
        (bytes.fromhex("0f0b"), Ending.STOPPED),  # ud2, and no IDT: a triple fault
        (SAYS + bytes.fromhex("eb") + bytes([256 - len(SAYS) - 2]), Ending.CONSOLE),
    ],
    ids=["hangs silently", "hangs", "triple fault", "talks for ever"],
)
def test_what_comes_to_nothing_is_not_observed(
    emulator: BuiltMachine, tmp_path: Path, code: bytes, ending: Ending
) -> None:
    experiment = Experiment(kernel=kernel(code), following=kernel(HANG), megabytes=128)
    bounds = RunBounds(seconds=8, console_bytes=2000)
    seen = run_experiment(experiment, emulator, tmp_path, bounds)
    assert seen.ending is ending
    assert seen.outcome is RunOutcome.NOT_OBSERVED
    assert "the first kernel did not come up" in seen.not_observed_because
    assert not seen.tells_cpuid

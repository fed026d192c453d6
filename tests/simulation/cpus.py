# SPDX-License-Identifier: GPL-2.0-or-later
"""What CPUID of the simulated machines says, as their guests told it; tests/machine compares."""

from __future__ import annotations

from pathlib import Path

from staleline.simulation.execution import CpuModel

__all__ = ["FOLDER", "cpuid_of"]

FOLDER = Path(__file__).parents[1] / "data" / "simulated"


def cpuid_of(model: CpuModel) -> str:
    """As ``cpuid -1 -r`` prints it."""
    return (FOLDER / f"{model}.txt").read_text()

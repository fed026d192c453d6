# SPDX-License-Identifier: GPL-2.0-or-later
"""Live patches that only their own tools tell of leave open what the kernel does."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.evidence.detect import parse_snapshot
from staleline.evidence.tools.livepatchers import applied_patches
from staleline.facts import from_snapshot

ROME = (
    Path(__file__).parents[2] / "data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
).read_text()

APPLIED = {
    "kpatch": "Loaded patch modules:\nkpatch_4_18_0_553_1_1 [enabled]\n\nInstalled:\n",
    "kpatch, on the way": "Loaded patch modules:\nlivepatch-fix [enabling...]\n",
    "klp": "livepatch_13_default\n    active: 1\n    RPM: none\n",
    "canonical": "kernel: 5.15.0-25\nstatus:\n- kernel: 5\n  livepatch:\n    patchState: applied\n",
    "canonical 10": "patch state: ✓ all applicable livepatch modules inserted\n",
    "ksplice": "Installed updates:\n[cp1p7rz5] Known exploit detection.\n\n"
    "Effective kernel version is 5.4.17-2136.315.5.el8uek\n",
    "kernelcare": "kpatch-state: patch is applied\nkpatch-for: Linux version 4.18.0\n",
}
NONE = {
    "kpatch": "Loaded patch modules:\n\nInstalled patch modules:\nkpatch_fix (4.18.0-553)\n",
    "klp": "no patch\n",
    "canonical": "    patchState: nothing-to-apply\n",
    "kernelcare": "No patches applied\n",
}


@pytest.mark.parametrize("tool", APPLIED)
def test_what_is_patched_is_no_longer_the_images(tool: str) -> None:
    machine = parse_snapshot(f"{ROME}\n{APPLIED[tool]}", "dump")
    assert from_snapshot(machine)["stop_path_changed"].value is True


@pytest.mark.parametrize("tool", NONE)
def test_that_one_tool_has_none_proves_nothing(tool: str) -> None:
    assert applied_patches(NONE[tool]) is None
    machine = parse_snapshot(f"{ROME}\n{NONE[tool]}", "dump")
    assert from_snapshot(machine)["stop_path_changed"].value is None

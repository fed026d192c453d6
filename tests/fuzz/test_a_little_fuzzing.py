# SPDX-License-Identifier: GPL-2.0-or-later
"""The first inputs of a fuzzing run, always the same; ``make fuzz`` goes on for longer."""

from __future__ import annotations

import re
import subprocess
import sys

INPUTS = 2000


def test_the_first_inputs_of_every_target():
    command = [sys.executable, "-m", "tests.fuzz.images", f"--runs={INPUTS}", "--seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ran = re.findall(r"^(\w+): (\d+) inputs, (\d+) edges, .*, ended$", done.stdout, re.MULTILINE)
    assert [target for target, _, _ in ran] == ["loader", "kallsyms", "package"]
    for _, inputs, edges in ran:
        assert int(inputs) >= INPUTS
        assert int(edges) > 100


def test_a_target_that_does_not_exist():
    command = [sys.executable, "-m", "tests.fuzz.images", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no target nonsense" in done.stderr

# SPDX-License-Identifier: GPL-2.0-or-later
"""The first inputs of a fuzzing run, always the same; ``make fuzz`` goes on for longer."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

from tests.fuzz.commands import Outcome
from tests.fuzz.rounds import ROUND, Total

INPUTS = 1000


def test_no_round_is_told_a_number_below_zero_which_means_no_limit():
    assert Total(inputs=INPUTS + 3).next_round(INPUTS) == 0
    assert Total(inputs=INPUTS - 1).next_round(INPUTS) == 1
    assert Total().next_round(10 * ROUND) == ROUND
    assert Total(inputs=INPUTS).next_round(-1) == ROUND


def test_a_process_that_executed_nothing_is_a_failure():
    total = Total()
    total.add("INFO: nothing to do", 0)
    assert total.failed == "not one input executed"


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


def test_the_first_mutated_inputs_of_every_command():
    command = [sys.executable, "-m", "tests.fuzz.commands", "--inputs", "20", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^20 inputs, 0 broken, at most \d+ MB and [\d.]+ s$", done.stdout, re.M)
    assert {line.partition(":")[0] for line in done.stdout.splitlines()[:-1]} == {
        *("audit", "preflight", "facts", "kernel", "check")
    }


def test_what_breaks_a_rule_is_seen():
    good = Outcome(1, "staleline: it: is empty", "", 100, 1.0)
    assert good.broken() == ""
    for change, said in (
        ({"status": -11}, "exit status"),
        ({"errors": "staleline: internal error, a defect"}, "internal error"),
        ({"errors": "one\ntwo\n"}, "more than one line"),
        ({"errors": ""}, "without a word"),
        ({"output": "\x1b[31m"}, "control character"),
        ({"megabytes": 301}, "MB of memory"),
        ({"seconds": 31.0}, "seconds"),
    ):
        assert said in replace(good, **change).broken()

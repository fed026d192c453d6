# SPDX-License-Identifier: GPL-2.0-or-later
"""Rounds of a fuzzing run: how many inputs each process gets, and what all of them did.

Apart from the fuzzer itself, so that a test can import it without instrumenting anything.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

ROUND = 8_000  # inputs per process: atheris keeps each, and each step of changing it


@dataclass
class Total:
    """What all processes of a target did."""

    inputs: int = 0
    edges: int = 0
    memory: int = 0
    failed: str = ""

    def next_round(self, runs: int) -> int:
        """Inputs for the next process, 0 when ``runs`` (below 0: any number) are done.

        libFuzzer may run a few inputs more than it was told, and takes a number below 0
        for no limit at all: what is left is therefore never below 0 here.
        """
        return ROUND if runs < 0 else min(max(runs - self.inputs, 0), ROUND)

    def add(self, output: str, status: int) -> None:
        """Count one process by what libFuzzer wrote; show it if it stopped early."""
        executed = _last(r"stat::number_of_executed_units: (\d+)", output)
        self.inputs += executed
        self.edges = max(self.edges, _last(r"cov: (\d+)", output))
        self.memory = max(self.memory, _last(r"stat::peak_rss_mb: +(\d+)", output))
        if status or not executed:
            self.failed = f"status {status}" if status else "not one input executed"
            sys.stderr.write(output[-4000:])


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0

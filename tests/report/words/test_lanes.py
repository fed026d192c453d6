# SPDX-License-Identifier: GPL-2.0-or-later
"""Counterexamples as lanes on a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from staleline.check.answer import check
from staleline.model.scenario import Flush, ForeignLines
from staleline.report.words.lanes import lanes
from tests.check.scenarios import kexec


def _printed(width: int, **changes: object) -> list[str]:
    found = check(kexec("on→off", flush_secondary=Flush.NEVER, **changes)).counterexample
    assert found is not None
    console = Console(file=io.StringIO(), width=width, no_color=True)
    console.print(lanes(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_lane_per_cpu_and_one_for_dram() -> None:
    (heading,) = [line for line in _printed(100) if "what happens" in line]
    assert re.split(r" {2,}", heading.strip()) == [
        "what happens",
        "jumping CPU",
        "secondary 1",
        "DRAM",
    ]


def test_values_stand_in_the_lane_of_their_cpu() -> None:
    printed = _printed(100)
    heading = next(line for line in printed if "what happens" in line)
    destroyed = next(line for line in printed if "destroyed" in line)
    assert destroyed.index("C-bit: absent") == heading.index("secondary 1")
    assert destroyed.index("destroyed") == heading.index("DRAM")


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("foreign", [ForeignLines.NONE, ForeignLines.SEV_GUESTS])
def test_fits_the_terminal(width: int, foreign: ForeignLines) -> None:
    assert max(map(len, _printed(width, foreign=foreign))) <= width

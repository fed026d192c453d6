# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of an emulator that ends at once: nothing that lies about is taken for what it told."""

from __future__ import annotations

import shutil
from pathlib import Path

from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.execution import Configuration, Ending, RunBounds, Way, run_ways


def test_what_an_earlier_run_left_is_not_what_this_one_told(tmp_path: Path) -> None:
    ends_at_once = shutil.which("false")
    assert ends_at_once
    (tmp_path / "built").mkdir()
    (tmp_path / "built/bochs").symlink_to(ends_at_once)
    for number in ("0", "1"):
        before = tmp_path / "run" / number
        before.mkdir(parents=True)
        (before / "console.txt").write_text("== worked 7.3.4\n")
        (before / "report.jsonl").write_text('{"event":"summary"}\n')
        (before / "bochs.log").write_text("00000000000p[ACPI  ] >>PANIC<< soft power off\n")
    emulator = BuiltMachine(tmp_path / "built", "none")
    ways = [Way(number, 1, {}) for number in range(2)]
    ended = run_ways(emulator, Configuration(), tmp_path / "run", RunBounds(seconds=60), ways)
    assert [(each.console, each.ending) for each in ended] == [("", Ending.STOPPED)] * 2
    assert [list(each.events()) for each in ended] == [[], []]

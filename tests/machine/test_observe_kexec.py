# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of a run. The reports are of real runs, cut to the events that count here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tools.observe_kexec import Observation, main, observation
from tools.simulated_machine import Ending, Run

CONSOLE = """\
[   26.337217] Run /init as init process
== up 7.3.4 online 0-1
== jump 7.3.4
[    0.000000] Linux version 7.3.4
== up 7.3.4 online 0-1
== worked 7.3.4
"""


def cache(cpu: int, **dirty: int) -> dict[str, Any]:
    lines = {"plain": dirty.get("plain", 0), "C-bit": dirty.get("cbit", 0)}
    return {"cpu": cpu, "state": "active", "flushing": False, "dirty": lines}


def flush(cpu: int, rip: int) -> dict[str, Any]:
    counts = {"held": 9, "dirty": 5, "destroyed": 0}
    return {"event": "flush", "instruction": "wbinvd", "cpu": cpu, "rip": f"{rip:#018x}", **counts}


def summary(destroyed: int) -> dict[str, Any]:
    loads = dict.fromkeys(
        ("destroyed_loads", "destroyed_fetches", "stale_loads", "wrong_alias_loads"), 0
    )
    return {"event": "summary", "destroyed": {"plain": 0, "C-bit": destroyed}, **loads}


HANDOVERS = [
    {"event": moment, "cpu": 0, "caches": [cache(0), cache(1, cbit=3)]}
    for moment in ("relocation", "handover")
]


def seen(tmp_path: Path, console: str, *events: dict[str, Any], cut: str = "") -> Observation:
    report = tmp_path / "report.jsonl"
    report.write_text("".join(json.dumps(event) + "\n" for event in events) + cut)
    return observation(
        Run(ending=Ending.POWERED_OFF, reason="", console=console, report=report, seconds=1.0)
    )


def test_a_jump_that_destroys_nothing_is_clean(tmp_path: Path) -> None:
    observed = seen(tmp_path, CONSOLE, *HANDOVERS, summary(0))
    assert (observed.status, observed.worked, observed.up) == (0, True, ("7.3.4", "7.3.4"))


def test_a_destroyed_line_counts_whatever_became_of_the_kernel(tmp_path: Path) -> None:
    assert seen(tmp_path, CONSOLE, *HANDOVERS, summary(1)).status == 2


@pytest.mark.parametrize(
    "fault", ["Kernel panic - not syncing", "general protection fault, maybe", "== files differ"]
)
def test_a_next_kernel_with_a_fault_has_not_worked(tmp_path: Path, fault: str) -> None:
    console = CONSOLE.replace("== worked", f"{fault}\n== worked")
    observed = seen(tmp_path, console, *HANDOVERS, summary(0))
    assert (observed.worked, observed.status) == (False, 2)


@pytest.mark.parametrize(
    "events",
    [[], [summary(0)], [*HANDOVERS[:1], summary(0)], HANDOVERS],
    ids=["no report", "no handover", "no jump", "no summary"],
)
def test_what_was_not_reached_is_never_clean(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    assert seen(tmp_path, CONSOLE, *events).status == 3


def test_a_report_that_is_cut_is_read_up_to_there(tmp_path: Path) -> None:
    observed = seen(tmp_path, CONSOLE, *HANDOVERS, cut='{"event": "flu')
    assert len(observed.handovers) == 2


def test_flushes_of_firmware_are_left_out(tmp_path: Path) -> None:
    kernels = (0xFFFF_FFFF_8104_DE3D, 0x99001, 0x62E50E0)
    flushes = [flush(0, 0xE0240), *(flush(0, rip) for rip in kernels)]
    observed = seen(tmp_path, CONSOLE, *flushes, *HANDOVERS, summary(0))
    assert tuple(int(each["rip"], 16) for each in observed.flushes) == kernels


def test_a_kernel_that_is_no_file_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("observe_kexec: ")

# SPDX-License-Identifier: GPL-2.0-or-later
"""What is told of a run. The reports are of real runs, cut to the events that count here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from staleline.simulation.execution import EndedRun, Ending
from staleline.simulation.observation import RunOutcome, SeenRun, seen_run
from staleline.simulation.prediction import Prediction, disagreement
from staleline.vocabulary import Verdict

CONSOLE = """\
[   26.337217] Run /init as init process
== up 7.3.4 online 2
== jump 7.3.4
[    0.000000] Linux version 7.3.4
== up 7.3.4 online 2
== worked 7.3.4
"""


def cache(cpu: int, **dirty: int) -> dict[str, Any]:
    lines = {"plain": dirty.get("plain", 0), "C-bit": dirty.get("cbit", 0)}
    old = {"plain": 0, "C-bit": 0}
    return {"cpu": cpu, "state": "active", "flushing": False, "dirty": lines, "overtaken": old}


def flush(cpu: int, rip: int) -> dict[str, Any]:
    counts = {"held": 9, "dirty": 5, "destroyed": 0, "kernel": 1, "end": 7}
    told = {"event": "flush", "instruction": "wbinvd", "cpu": cpu, "rip": f"{rip:#018x}"}
    return {**told, **counts}


def summary(destroyed: int) -> dict[str, Any]:
    loads = dict.fromkeys(
        ("destroyed_loads", "destroyed_fetches", "stale_loads", "wrong_alias_loads"), 0
    )
    return {"event": "summary", "destroyed": {"plain": 0, "C-bit": destroyed}, **loads}


HANDOVERS = [
    {
        "event": moment,
        "cpu": 0,
        "lstar": "0xffffffff81000080",
        "tick": 9,
        "caches": [cache(0), cache(1, cbit=3)],
    }
    for moment in ("relocation", "handover")
]


def seen(
    tmp_path: Path,
    console: str,
    *events: dict[str, Any],
    cut: str = "",
    ending: Ending = Ending.POWERED_OFF,
) -> SeenRun:
    report = tmp_path / "report.jsonl"
    report.write_text("".join(json.dumps(event) + "\n" for event in events) + cut)
    return seen_run(EndedRun(ending=ending, reason="", console=console, report=report, seconds=1.0))


def test_a_jump_that_destroys_nothing_is_clean(tmp_path: Path) -> None:
    observed = seen(tmp_path, CONSOLE, *HANDOVERS, summary(0))
    assert (observed.outcome, observed.worked) == (RunOutcome.CLEAN, True)
    assert observed.up == ("7.3.4", "7.3.4")


def test_a_destroyed_line_counts_whatever_became_of_the_kernel(tmp_path: Path) -> None:
    assert seen(tmp_path, CONSOLE, *HANDOVERS, summary(1)).outcome is RunOutcome.DESTROYED


def test_what_a_machine_told_before_it_was_stopped_was_destroyed(tmp_path: Path) -> None:
    # A next kernel that its damage makes panic resets the machine, which ends without its counts.
    console = CONSOLE[: CONSOLE.index("== up", CONSOLE.index("== jump"))]
    store = {"cpu": 1, "kernel": 1, "mode": "kernel", "rip": "0xffffffff813a1362"}
    told = {"event": "destroyed", "alias": "C-bit", "cause": "WBINVD", "times": 1}
    told |= {"dirtied": store, "newest": store, "newest_alias": "plain", "written": store}
    lines = [{**told, "line": line} for line in ("0x2ffc0540", "0x2ffc60c0", "0x2ffc0540")]
    observed = seen(tmp_path, console, *HANDOVERS, *lines, ending=Ending.RESET)
    assert (observed.outcome, observed.destroyed) == (RunOutcome.DESTROYED, 2)
    assert disagreement(Prediction(Verdict.SAFE, "", None, None, {}, ()), observed) is not None


@pytest.mark.parametrize(
    "fault", ["Kernel panic - not syncing", "general protection fault, maybe", "== files differ"]
)
def test_a_next_kernel_with_a_fault_has_not_worked(tmp_path: Path, fault: str) -> None:
    console = CONSOLE.replace("== worked", f"{fault}\n== worked")
    observed = seen(tmp_path, console, *HANDOVERS, summary(0))
    assert (observed.worked, observed.outcome) == (False, RunOutcome.FAILED)
    assert observed.fault == fault


def test_what_the_first_kernel_said_is_no_fault_of_the_next(tmp_path: Path) -> None:
    observed = seen(tmp_path, f"Oops: before\n{CONSOLE}", *HANDOVERS, summary(0))
    assert observed.outcome is RunOutcome.CLEAN


def test_the_crash_itself_is_no_fault_of_the_next_kernel(tmp_path: Path) -> None:
    panic = "[ 2.6] Kernel panic - not syncing: sysrq triggered crash"
    console = CONSOLE.replace("== jump 7.3.4", f"== crash 7.3.4\n{panic}")
    assert seen(tmp_path, console, *HANDOVERS, summary(0)).outcome is RunOutcome.CLEAN
    another = console.replace("== worked", "Kernel panic - not syncing: VFS\n== worked")
    assert seen(tmp_path, another, *HANDOVERS, summary(0)).outcome is RunOutcome.FAILED


def test_what_looks_like_a_jump_in_the_next_kernel_is_none(tmp_path: Path) -> None:
    observed = seen(tmp_path, CONSOLE, *HANDOVERS, *HANDOVERS, summary(0))
    assert [each.moment for each in observed.handovers] == ["relocation", "handover"]


def test_a_flush_that_goes_on_at_the_handover_is_a_race(tmp_path: Path) -> None:
    race = {"event": "flush-race", "at": "handover", "cpu": 0, "flushing": 1, "tick": 9}
    later = {**race, "tick": 10, "flushing": 0}
    observed = seen(tmp_path, CONSOLE, *HANDOVERS, race, later, summary(0))
    assert (observed.outcome, observed.races) == (RunOutcome.RACE, (1,))


@pytest.mark.parametrize(
    ("console", "events", "why"),
    [
        ("", [], "the first kernel did not come up"),
        (CONSOLE, [summary(0)], "did not come to jump"),
        (CONSOLE, [*HANDOVERS[:1], summary(0)], "did not come to jump"),
        (CONSOLE, HANDOVERS, "without telling what its caches held"),
        (
            CONSOLE.split("== jump", maxsplit=1)[0],
            [summary(0)],
            "did not come to load the next one",
        ),
        (
            f"{CONSOLE.split('== jump', maxsplit=1)[0]}== cannot load: error -12\n",
            [*HANDOVERS, summary(0)],
            "cannot load: error -12",
        ),
    ],
)
def test_what_was_not_reached_is_never_clean(
    tmp_path: Path, console: str, events: list[dict[str, Any]], why: str
) -> None:
    observed = seen(tmp_path, console, *events)
    assert observed.outcome is RunOutcome.NOT_OBSERVED
    assert why in observed.not_observed_because


@pytest.mark.parametrize("worked", [True, False])
@pytest.mark.parametrize("ending", [Ending.TIME, Ending.CONSOLE])
def test_a_next_kernel_that_was_switched_off_neither_worked_nor_failed(
    tmp_path: Path, ending: Ending, *, worked: bool
) -> None:
    console = CONSOLE if worked else CONSOLE.partition("== worked")[0]
    observed = seen(tmp_path, console, *HANDOVERS, summary(0), ending=ending)
    assert (observed.outcome, observed.worked) == (RunOutcome.NOT_OBSERVED, False)
    assert observed.not_observed_because == f"the next kernel did not come to its end ({ending})"


def test_a_next_kernel_without_a_serial_console_did_not_fail(tmp_path: Path) -> None:
    console = CONSOLE.partition("[    0.000000]")[0]
    observed = seen(tmp_path, console, *HANDOVERS, summary(0))
    assert observed.outcome is RunOutcome.NOT_OBSERVED
    assert "told nothing on the serial port" in observed.not_observed_because


@pytest.mark.parametrize("ending", [Ending.STOPPED, Ending.RESET])
def test_a_next_kernel_that_ends_by_itself_before_it_is_done_failed(
    tmp_path: Path, ending: Ending
) -> None:
    console = CONSOLE.partition("== worked")[0]
    observed = seen(tmp_path, console, *HANDOVERS, summary(0), ending=ending)
    assert observed.outcome is RunOutcome.FAILED
    # What has worked and then faults, or boots again, did not switch off.
    again = seen(tmp_path, CONSOLE, *HANDOVERS, summary(0), ending=ending)
    assert again.outcome is RunOutcome.FAILED


def test_a_fault_counts_however_the_run_ended(tmp_path: Path) -> None:
    console = CONSOLE.replace("== worked", "Oops: 0000\n== worked")
    observed = seen(tmp_path, console, *HANDOVERS, summary(0), ending=Ending.TIME)
    assert observed.outcome is RunOutcome.FAILED


def test_a_report_that_is_cut_is_read_up_to_there(tmp_path: Path) -> None:
    observed = seen(tmp_path, CONSOLE, *HANDOVERS, cut='{"event": "flu')
    assert len(observed.handovers) == 2


def test_flushes_of_firmware_are_left_out(tmp_path: Path) -> None:
    kernels = (0xFFFF_FFFF_8104_DE3D, 0x99001, 0x62E50E0)
    flushes = [flush(0, 0xE0240), *(flush(0, rip) for rip in kernels)]
    observed = seen(tmp_path, CONSOLE, *flushes, *HANDOVERS, summary(0))
    assert tuple(each.at.rip for each in observed.flushes) == kernels

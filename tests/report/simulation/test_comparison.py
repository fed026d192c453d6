# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as text and as JSON. What it has shown is cut from a run of Debian's 7.3.4 as Hygon."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest

from staleline.kernel.image.assembly import load_image
from staleline.report.simulation.comparison_json import run_document
from staleline.report.simulation.comparison_text import outcome_words, print_comparison
from staleline.report.words.console import text_console
from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.execution import Ending
from staleline.simulation.experiment import Experiment, SimulatedCpus
from staleline.simulation.judgedrun import ControlledRun, JudgedRun, RunQuestion, controls
from staleline.simulation.medium import boot_image
from staleline.simulation.observation import (
    Chain,
    CpuCache,
    ExecutedFlush,
    LineAccess,
    Moment,
    SeenRun,
)
from staleline.simulation.places import NamedPlaces
from staleline.simulation.prediction import Prediction
from staleline.vocabulary import Site, Verdict
from tests.conftest import RealKernel
from tests.documents import check_document
from tests.simulation.test_prediction import CLEAN

AT_RISK = Prediction(
    Verdict.AT_RISK,
    "No stale write-back",
    "P1",
    "image",
    {Site.STOP_THIS_CPU: False, Site.RELOCATE_KERNEL: False},
    (),
)
SAFE = replace(AT_RISK, verdict=Verdict.SAFE, broken=None, role=None)


def dirty(cpu: int, plain: int, cbit: int, old: int = 0) -> CpuCache:
    lines, overtaken = {"plain": plain, "C-bit": cbit}, {"plain": 0, "C-bit": old}
    return CpuCache(cpu, "active", flushing=False, dirty=lines, overtaken=overtaken)


COUNTS: dict[str, Any] = dict.fromkeys(
    ("destroyed_loads", "destroyed_fetches", "stale_loads", "wrong_alias_loads"), 3
)
SEEN: SeenRun = replace(
    CLEAN,
    worked=False,
    fault="general protection fault",
    handovers=tuple(
        Moment(moment, 0, 0, tick, (dirty(0, 5, 7), dirty(1, 0, 31941, 862)))
        for moment, tick in (("relocation", 100), ("handover", 200))
    ),
    flushes=(ExecutedFlush("wbinvd", LineAccess(1, 2, "kernel", 0x99001), 9, 8, 861, 300),),
    chains=(
        Chain(
            "destroyed",
            0x117E280,
            "C-bit",
            LineAccess(1, 1, "kernel", 0xFFFFFFFF81A900F0),
            LineAccess(0, 2, "kernel", 0xFFFFFFFF81B00000),
            "plain",
            LineAccess(1, 2, "kernel", 0x99001),
            "WBINVD",
            12,
        ),
    ),
    counts={"destroyed": {"plain": 0, "C-bit": 861}, **COUNTS},
    last_lines=("[bold]not markup",),
)


@pytest.fixture
def question(real_kernels: dict[str, RealKernel]) -> RunQuestion:
    path = real_kernels["6.12"].path
    experiment = Experiment(
        kernel=boot_image(path), following=boot_image(path), machine=SimulatedCpus.HYGON
    )
    return RunQuestion(kernel=str(path), following=str(path), experiment=experiment)


@pytest.fixture
def compared(question: RunQuestion) -> ControlledRun:
    image = load_image(question.kernel)
    places = NamedPlaces(image, image)
    clean = replace(CLEAN, handovers=SEEN.handovers, counts={**CLEAN.counts, **COUNTS})
    run = JudgedRun("run", question.experiment, SEEN, AT_RISK, places)
    beside = tuple(
        JudgedRun(name, control.experiment, clean, SAFE, places)
        for name, control in controls(question)
    )
    return ControlledRun(question, run, beside)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def text_of(found: ControlledRun) -> str:
    buffer = io.StringIO()
    print_comparison(text_console(buffer), found)
    return buffer.getvalue()


def test_a_hygon_has_two_controls(question: RunQuestion) -> None:
    machines = [control.experiment for _, control in controls(question)]
    assert [each.machine for each in machines] == [SimulatedCpus.HYGON, SimulatedCpus.AMD]
    assert [each.caches.get("aliases") for each in machines] == ["coherent", None]


def test_a_control_of_a_missing_flush_has_it(question: RunQuestion) -> None:
    skipping = question.experiment.with_caches(skip_wbinvd="1@1")
    skipping = replace(skipping, machine=SimulatedCpus.AMD)
    asked = replace(question, experiment=skipping, without=Site.STOP_THIS_CPU)
    *_, (_, whole) = controls(asked)
    assert "skip_wbinvd" not in whole.experiment.caches
    assert whole.without is None


def test_text_tells_observed_beside_predicted(compared: ControlledRun) -> None:
    text = text_of(compared)
    assert "at-risk (P1, image)" in text
    assert "861 lines destroyed, and the next kernel did not work" in text
    assert "31,941 through the C-bit; 862 of them overtaken" in text
    assert "none before the jump" in text
    assert "trampoline of starting CPUs, 0x99001 (after the jump)" in text
    assert "Every control is clean" in text
    assert "| [bold]not markup" in text
    assert "measured" not in text


def test_who_is_to_blame_is_open_if_a_control_is_not_clean(compared: ControlledRun) -> None:
    bad = replace(compared.controls[0], seen=SEEN)
    text = text_of(replace(compared, controls=(bad, compared.controls[1])))
    assert "does not tell who is to blame" in text
    assert "aliases coherent disagrees with what is predicted" in text


def test_what_was_not_observed_is_never_called_clean(compared: ControlledRun) -> None:
    silent = replace(CLEAN, up=(), left=False, counts={}, ending=Ending.TIME, cpuid="CPU:\n")
    run = replace(compared.run, seen=silent, prediction=None)
    text = text_of(replace(compared, run=run, controls=()))
    assert "not observed: the first kernel did not come up (time is up)" in text
    assert "nothing destroyed" not in text


def test_json_follows_its_schema(compared: ControlledRun) -> None:
    document = run_document(compared, BuiltMachine(FilePath("none"), "key"))
    assert document["schema"] == "staleline/run/1"
    check_document(document)
    assert document["to_blame"] is True
    assert document["run"]["observed"]["destroyed"] == 861
    assert [told["observed"]["outcome"] for told in document["controls"]] == ["clean", "clean"]


def test_text_of_a_machine_that_did_not_come_to_count_says_at_least() -> None:
    stopped = replace(CLEAN, counts={}, told_destroyed=2, worked=False, ending=Ending.RESET)
    words = "2 lines destroyed, and the next kernel did not work"
    assert outcome_words(stopped) == f"at least {words}"
    counted = replace(stopped, counts={"destroyed": {"plain": 0, "C-bit": 2}})
    assert outcome_words(counted) == words

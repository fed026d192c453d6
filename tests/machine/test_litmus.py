# SPDX-License-Identifier: GPL-2.0-or-later
"""A sample of the litmus programs; all of them are run by ``make machine-test``."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.machine_litmus import Finding, Program, assembled, judged, outcome, programs

from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.execution import (
    Configuration,
    CpuModel,
    EndedRun,
    Ending,
    RunBounds,
    run,
)

SAMPLE = (
    "aliases-are-two-entries",
    "stale-line-of-other-cpu",
    "wbnoinvd-keeps",
    "init-keeps-dirty-lines",
    "dma-read-past-cbit-line",
    "mtrr-uc",
    "eviction-of-any-line",
)
BY_NAME = {program.name: program for program in programs()}


def ended(console: str) -> EndedRun:
    return EndedRun(
        ending=Ending.STOPPED, reason="word", console=console, report=Path("none"), seconds=0
    )


@pytest.mark.parametrize("name", SAMPLE)
def test_outcomes_are_as_allowed(name: str, emulator: BuiltMachine) -> None:
    for finding in judged(BY_NAME[name], emulator):
        assert finding.right, f"{finding.model}: {sorted(finding.seen)}"


def test_every_program_names_its_source_and_fits() -> None:
    assert len(BY_NAME) == len(programs()) >= 40
    for program in programs():
        assert program.source
        assert program.outcomes
        assert program.every <= (program.seeds > 1), program.name


def test_every_program_assembles(tmp_path: Path) -> None:
    for program in programs():
        assert len(assembled(program, tmp_path)) == 1440 * 1024


def test_outcome_names_values_and_their_ciphertext() -> None:
    # keystream of 0x200000: computed by hand from crypt() in the patch, with A added to it
    plain = "aaaaaaaaaaaaaaaa dddddddddddddddd 0000000000000000 0123456789abcdef \n"
    assert outcome(ended(plain)) == "A D 0 junk"


@pytest.mark.parametrize("console", ["", "aaaaaaaaaaaaaaaa", "aaaa \n", "Booting from Floppy...\n"])
def test_a_run_without_its_end_has_no_outcome(console: str) -> None:
    assert outcome(ended(console)).startswith("no outcome: stopped by the machine: word")


def test_a_program_that_has_to_show_every_outcome_is_not_right_with_some() -> None:
    both = frozenset({"0", "A"})
    for every, right in ((True, False), (False, True)):
        program = Program(
            name="n", asks="a", source="s", code="", outcomes=both, every=every, seeds=2
        )
        assert Finding(program, CpuModel.ROME, both, frozenset({"A"})).right is right


def test_without_caches_encryption_cannot_be_seen(emulator: BuiltMachine, tmp_path: Path) -> None:
    floppy = tmp_path / "floppy"
    floppy.write_bytes(assembled(BY_NAME["aliases-are-two-entries"], tmp_path))
    machine = Configuration(megabytes=16, caches=None, floppy=floppy)
    assert outcome(run(emulator, machine, tmp_path / "run", RunBounds(seconds=60))) == "B B"


class TestRepeatability:
    def test_same_seed_same_run_byte_for_byte(self, emulator: BuiltMachine, tmp_path: Path) -> None:
        floppy = tmp_path / "floppy"
        floppy.write_bytes(assembled(BY_NAME["eviction-of-any-line"], tmp_path))
        caches: dict[str, str | int] = {"size": 64, "ways": 1, "restless": 7, "seed": 5}
        machine = Configuration(megabytes=16, caches=caches, floppy=floppy)
        folder = tmp_path / "run"
        runs = [
            run(emulator, machine, folder, RunBounds(seconds=60)).report.read_bytes()
            for _ in range(2)
        ]
        assert runs[0] == runs[1]
        assert b'"event":"summary"' in runs[0]


class TestBounds:
    def test_a_program_that_does_not_end_is_stopped(
        self, emulator: BuiltMachine, tmp_path: Path
    ) -> None:
        floppy = tmp_path / "floppy"
        floppy.write_bytes(b"\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa" + bytes(1474560 - 512))
        machine = Configuration(megabytes=16, floppy=floppy)
        assert run(emulator, machine, tmp_path / "run", RunBounds(seconds=5)).ending is Ending.TIME

    def test_a_console_that_does_not_end_is_stopped(
        self, emulator: BuiltMachine, tmp_path: Path
    ) -> None:
        endless = bytes.fromhex("bafb03b003ee baf803 b041 ee ebfd")  # 8 bits; "A" for ever
        floppy = tmp_path / "floppy"
        floppy.write_bytes(endless.ljust(510, b"\0") + b"\x55\xaa" + bytes(1474560 - 512))
        machine = Configuration(megabytes=16, floppy=floppy)
        bounds = RunBounds(seconds=60, console_bytes=1000)
        assert run(emulator, machine, tmp_path / "run", bounds).ending is Ending.CONSOLE

    def test_a_machine_that_boots_again_and_again_is_stopped(
        self, emulator: BuiltMachine, tmp_path: Path
    ) -> None:
        floppy = tmp_path / "floppy"
        floppy.write_bytes(assembled(BY_NAME["reset-loses"], tmp_path))
        machine = Configuration(megabytes=16, floppy=floppy)
        ended = run(emulator, machine, tmp_path / "run", RunBounds(seconds=60))
        assert ended.ending is Ending.RESET
        assert len(list(ended.events("summary"))) == 1

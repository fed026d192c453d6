# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that goes on in several ways from where its guest asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from staleline.simulation.emulator import BuiltMachine
from staleline.simulation.execution import Configuration, Ending, RunBounds, Way, run, run_ways

#: A boot sector that sends 8 bits, tells "w", asks CPUID 0x57415953, tells EAX as a digit, and
#: switches off.
TELL = "baf803ee bafd03 ec a840 74fb"  # AL to the serial port, until it is sent
ASK = "bafb03b003ee b077" + TELL + "66b853594157 0fa2 0430" + TELL
SWITCH_OFF = "ba0089" + "".join(f"b0{letter:02x}ee" for letter in b"Shutdown")
BOUNDS = RunBounds(seconds=60)


@pytest.fixture
def machine(tmp_path: Path) -> Configuration:
    code = bytes.fromhex(ASK + SWITCH_OFF + "f4ebfd")
    floppy = tmp_path / "floppy"
    floppy.write_bytes((code.ljust(510, b"\0") + b"\x55\xaa").ljust(1440 * 1024, b"\0"))
    return Configuration(megabytes=16, floppy=floppy)


def test_each_way_knows_its_number_and_begins_with_what_was_before(
    emulator: BuiltMachine, tmp_path: Path, machine: Configuration
) -> None:
    ways = [Way(number, 30, {"seed": number}) for number in range(3)]
    ended = run_ways(emulator, machine, tmp_path / "run", BOUNDS, ways)
    assert [each.console for each in ended] == ["w0", "w1", "w2"]
    assert {each.ending for each in ended} == {Ending.POWERED_OFF}


def test_a_machine_with_one_way_is_number_0(
    emulator: BuiltMachine, tmp_path: Path, machine: Configuration
) -> None:
    assert run(emulator, machine, tmp_path / "run", BOUNDS).console == "w0"

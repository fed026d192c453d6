# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from tools.build_machine import MACHINE

from staleline.errors import UsageError
from staleline.simulation.emulator import INTERFACE, built_machine

FILES = ("bochs", "bios", "vgabios", "boot", "init", "probe")


def built(folder: Path, **record: object) -> Path:
    (folder / "built").mkdir()
    for name in FILES:
        (folder / "built" / name).write_bytes(name.encode())
    (folder / "built" / "build.json").write_text(json.dumps(record))
    return folder


def test_what_is_not_built_says_how(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^the simulated machine is not built; make machine"):
        built_machine(tmp_path)


@pytest.mark.parametrize("record", ['{"key": ', "[]", '{"other": 1}'])
def test_a_damaged_record_is_no_build(tmp_path: Path, record: str) -> None:
    built(tmp_path)
    (tmp_path / "built" / "build.json").write_text(record)
    with pytest.raises(UsageError, match="not built"):
        built_machine(tmp_path)


@pytest.mark.parametrize("record", [{"key": "k"}, {"key": "k", "interface": INTERFACE + 1}])
def test_another_version_is_refused(tmp_path: Path, record: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="is of another version"):
        built_machine(built(tmp_path, **record))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = built(tmp_path, key="k", interface=INTERFACE)
    (folder / "built" / "probe").unlink()
    with pytest.raises(UsageError, match="probe is missing"):
        built_machine(folder)


def test_programs_of_guests_are_in_the_name(tmp_path: Path) -> None:
    folder = built(tmp_path, key="k", interface=INTERFACE)
    before = built_machine(folder).key
    (folder / "built" / "init").write_bytes(b"another")
    assert before.startswith("k-")
    assert built_machine(folder).key != before


def test_build_and_program_agree_about_the_interface() -> None:
    assert tomllib.loads((MACHINE / "machine.toml").read_text())["interface"] == INTERFACE

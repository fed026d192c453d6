# SPDX-License-Identifier: GPL-2.0-or-later
"""The kit is written as it is installed, and over nothing that is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from staleline.errors import UsageError
from staleline.litmus.kit import kit_files, write_kit


def test_all_that_builds_and_runs_it_is_there(tmp_path: Path) -> None:
    written = write_kit(str(tmp_path / "new" / "kit"))
    assert {path.name for path in written} == {
        "Kbuild",
        "Makefile",
        "dkms.conf",
        "run.sh",
        "staleline_litmus.c",
        "tests.litmus",
    }
    assert {path.name: path.read_text() for path in written} == dict(kit_files())
    subprocess.run(["sh", "-n", str(tmp_path / "new/kit/run.sh")], check=True)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(UsageError, match="is not empty"):
        write_kit(str(tmp_path))
    with pytest.raises(UsageError, match="cannot be made"):
        write_kit(str(tmp_path / "mine"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_dkms_and_the_module_have_one_name_and_version() -> None:
    conf, module = kit_files()["dkms.conf"], kit_files()["staleline_litmus.c"]
    assert 'BUILT_MODULE_NAME[0]="staleline_litmus"' in conf
    assert "obj-m := staleline_litmus.o" in kit_files()["Kbuild"]
    language = re.search(r"#define LANGUAGE\s+(\d+)", module)
    assert language is not None
    assert f'PACKAGE_VERSION="{language[1]}"' in conf

# SPDX-License-Identifier: GPL-2.0-or-later
"""Output that cannot be written, readers that go away, defects: one line and a status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from staleline.cli import main as main_module
from staleline.cli.main import TRACEBACK, main

COMMAND = f"{sys.executable} -m staleline"


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("output", ["> /dev/full", ">&-", "-o /dev/full", "-o /proc/none"])
def test_output_that_cannot_be_written_is_one_line(output: str) -> None:
    done = shell(f"{COMMAND} check linux-6.5 {output}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("staleline: ")


def test_a_reader_that_goes_away_is_told_as_shells_tell_it() -> None:
    done = shell(f"{COMMAND} policies | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_a_fifo_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert main(["check", "linux-6.5", "-o", str(tmp_path / "fifo")]) == 1


def test_a_locale_without_the_characters_of_a_report_gets_the_report() -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = shell(f"{COMMAND} check linux-6.5", **ascii_only)
    assert done.stderr == ""
    assert "\\u2192" in done.stdout


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main_module.program, "invoke", interrupted)
    assert main(["policies"]) == 130


def test_a_defect_is_one_line_unless_its_place_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(main_module.program, "invoke", defect)
    with pytest.raises(ZeroDivisionError):  # as in every other test
        main(["policies"])
    monkeypatch.delenv(TRACEBACK)
    assert main(["policies"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("staleline: internal error, a defect of staleline: ZeroDivisionError")

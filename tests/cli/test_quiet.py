# SPDX-License-Identifier: GPL-2.0-or-later
"""Output that cannot be written, readers that go away, text that terminals obey: one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from staleline.cli import main as main_module
from staleline.cli.main import TRACEBACK, main

COMMAND = f"{sys.executable} -m staleline"
EVIL = "\x1b[31m\x9b2J\u202e\u2066\u200f\u200b\u2028\x07"
FORMATS = ("text", "json", "sarif", "junit", "prometheus", "markdown")


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


def evil_snapshot(directory: Path) -> Path:
    text = {
        "schema": "staleline/snapshot/1",
        "host": f"host{EVIL}",
        "cpus": [],
        "cpuinfo": {
            "vendor": "AuthenticAMD",
            "family": 23,
            "model": 49,
            "stepping": 0,
            "flags": ["sme", f"sev{EVIL}"],
            "bugs": [f"bug{EVIL}"],
        },
        "kernel": {"release": f"6.12{EVIL}", "cmdline": f"mem_encrypt=on {EVIL}"},
        "log": {"complete": False, "lines": [f"SME {EVIL}"]},
        "notes": [{"what": f"cpuid{EVIL}", "why": f"why{EVIL}"}],
    }
    path = directory / f"snapshot{EVIL}"
    path.write_text(json.dumps(text))
    return path


def obeyed(text: str) -> set[str]:
    """Characters that a terminal or the order of text obeys."""
    wild = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return {c for c in text if c != "\n" and unicodedata.category(c) in wild}


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_that_a_terminal_obeys_comes_out_of_a_snapshot_or_a_name(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(evil_snapshot(tmp_path))
    main(["audit", "--snapshot", path, "--kernel", "linux-6.5", "--format", form])
    main(["audit", "--snapshot", path])  # whose release names no kernel
    if form in ("text", "json"):
        main(["facts", path, *(["--json"] if form == "json" else [])])
    said = capsys.readouterr()
    assert said.out
    assert not obeyed(said.out + said.err)


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_that_a_terminal_obeys_comes_out_of_a_policy(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.resources import files  # noqa: PLC0415

    rule = files("staleline.policy.catalogue").joinpath("linux-6.5.toml").read_text()
    title = next(line for line in rule.splitlines() if line.startswith("title"))
    odd = json.dumps(f"Title {EVIL}").replace("\\u009b", "\\u009b")
    policy = tmp_path / f"rule{EVIL}.toml"
    policy.write_text(rule.replace(title, f"title = {odd}"))
    main(["check", str(policy), "--format", form])
    said = capsys.readouterr()
    assert said.out + said.err
    assert not obeyed(said.out + said.err)

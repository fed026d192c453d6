# SPDX-License-Identifier: GPL-2.0-or-later
"""SARIF: names of files that are no UTF-8, and several machines in one log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from staleline.cli.main import main
from tests.findings import ROOT

HYGON = ROOT / "tests/data/cpuid/registers/hygon-c86-3250.cpuid"


def test_a_name_that_is_no_utf_8_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/image\xff")
    Path(name).write_bytes(b"no image")
    assert main(["kernel", "--no-cache", "--format", "sarif", name]) == 1
    (result,) = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert result["ruleId"] == "image-unreadable"


def test_two_machines_of_one_log_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Services keep one run of a category, and take results of one fingerprint for one.
    asked = [word for name in ("one", "other") for word in ("--snapshot", str(tmp_path / name))]
    for file in asked[1::2]:
        Path(file).write_bytes(HYGON.read_bytes())
    assert main(["audit", *asked, "--kernel", "linux-6.18", "--format", "sarif"]) == 3
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert len({run["automationDetails"]["id"] for run in runs}) == len(runs) == 2
    for run in runs:
        assert run["automationDetails"]["id"].endswith("/")
        named = run["properties"]["subject"]
        assert all(named in result["message"]["text"] for result in run["results"])
    prints = [{_fingerprint(one) for one in run["results"]} for run in runs]
    assert not prints[0] & prints[1]


def _fingerprint(result: dict[str, Any]) -> str:
    return str(result["partialFingerprints"]["staleline/v1"])

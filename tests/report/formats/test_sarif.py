# SPDX-License-Identifier: GPL-2.0-or-later
"""A file's name is bytes: SARIF tells of one that is no UTF-8 too."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from staleline.cli.main import main


def test_a_name_that_is_no_utf_8_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/image\xff")
    Path(name).write_bytes(b"no image")
    assert main(["kernel", "--no-cache", "--format", "sarif", name]) == 1
    (result,) = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert result["ruleId"] == "image-unreadable"

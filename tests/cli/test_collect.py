# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline collect``, and the audit of a host being that of its snapshot."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from staleline.cli.main import main

SCHEMA = json.loads(files("staleline").joinpath("schemas/snapshot-1.json").read_text("utf-8"))
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit status and standard output, without times."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return status, _TIME.sub("TIME", captured.out)


def test_a_snapshot_of_this_host_is_what_the_schema_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, text = run(capsys, "collect")
    assert status == 0
    document = json.loads(text)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["collected"] == "TIME"


@pytest.mark.parametrize("kernel", ["linux-6.5", "6.12.107"])
@pytest.mark.parametrize("path", ["kexec", "crash"])
def test_the_live_audit_is_the_audit_of_the_snapshot(
    kernel: str, path: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    snapshot = tmp_path / "host.json"
    assert run(capsys, "collect", "-o", snapshot) == (0, "")
    arguments = ("audit", "--kernel", kernel, "--path", path, "--json")
    live, read = (run(capsys, *arguments, *more) for more in ((), ("--snapshot", snapshot)))
    documents = [json.loads(text) for _, text in (live, read)]
    for found in documents:
        del found["provenance"]  # which names the file that was read
    assert documents[0]["schema"] == "staleline/audit/1"
    assert live[0] == read[0]
    assert documents[0] == documents[1]


def test_the_script_is_the_collector_and_runs_by_itself(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, script = run(capsys, "collect", "--script")
    alone = subprocess.run(
        [sys.executable, "-I", "-S", "-"], input=script, capture_output=True, text=True, check=True
    )
    _, here = run(capsys, "collect")
    assert _TIME.sub("TIME", alone.stdout) == here


def test_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = run(capsys, "collect", "--redact")
    document = json.loads(text)
    assert document["host"] is None
    # What is read of it does not change.
    _, whole = run(capsys, "collect")
    assert document["cpus"] == json.loads(whole)["cpus"]

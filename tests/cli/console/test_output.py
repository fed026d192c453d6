# SPDX-License-Identifier: GPL-2.0-or-later
"""``--format`` and ``--output`` of the commands, and ``staleline explain``."""

from __future__ import annotations

import json
import os
import select
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import junitparser
import pytest
from itf_py import trace_from_json
from prometheus_client.parser import text_string_to_metric_families

from staleline.cli.main import main
from staleline.report.words.explanations import explanations
from tests.conftest import RealKernel
from tests.documents import document_of

CPUID = Path(__file__).parents[2] / "data" / "cpuid"
HYGON = (
    *("audit", "--snapshot", str(CPUID / "registers/hygon-c86-3250.cpuid"), "--path", "kexec"),
    *("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on", "--kernel", "linux-6.18"),
)
AT_RISK = 2


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main([str(argument) for argument in arguments])
    return status, capsys.readouterr().out


@pytest.mark.parametrize("form", ["text", "json", "sarif", "junit", "markdown"])
def test_a_file_gets_what_standard_output_would(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str
) -> None:
    file = tmp_path / "report"
    assert run(capsys, *HYGON, "--format", form, "-o", file) == (AT_RISK, "")
    assert (AT_RISK, file.read_text()) == run(capsys, *HYGON, "--format", form)


def test_a_file_for_collectors_is_readable_by_them_and_nothing_else_is_left(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "staleline.prom"
    for _ in range(2):
        assert run(capsys, *HYGON, "--format", "prometheus", "--output", file)[0] == AT_RISK
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["staleline.prom"]
    names = {family.name for family in text_string_to_metric_families(file.read_text())}
    assert "staleline_verdict" in names


def test_a_reader_sees_the_old_file_or_the_new_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "staleline.prom"
    file.write_text("old\n")
    with file.open() as reader:
        run(capsys, *HYGON, "--format", "prometheus", "-o", file)
        assert reader.read() == "old\n"
    assert file.read_text() != "old\n"


def test_a_link_stays_a_link_and_a_pipe_a_pipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(target)
    run(capsys, *HYGON, "--json", "-o", link)
    assert link.is_symlink()
    os.mkfifo(pipe)
    # There before it is written to: a pipe that nobody reads is an error.
    with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as end:
        read: list[bytes] = []
        reader = threading.Thread(target=lambda: read.append(_all_of(end)), daemon=True)
        reader.start()
        run(capsys, *HYGON, "--json", "-o", pipe)
        reader.join(timeout=60)
    assert read == [target.read_bytes()]


def _all_of(end: BinaryIO) -> bytes:
    select.select([end], [], [])
    os.set_blocking(end.fileno(), True)
    return end.read()


def test_a_place_that_cannot_be_written_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "missing" / "report"
    assert main([*HYGON, "-o", str(missing)]) == 1
    assert capsys.readouterr().err == (
        f"staleline: {missing}: cannot be written: No such file or directory; "
        "make the directory, or name another place\n"
    )


def test_two_formats_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*HYGON, "--json", "--format", "sarif"]) == 1
    assert "ask for one of them" in capsys.readouterr().err


def test_policies_checked_together_are_runs_and_suites_of_one_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    policies = ("check", "linux-7.2", "host-mem-incoherent")
    status, text = run(capsys, *policies, "--format", "sarif")
    runs = json.loads(text)["runs"]
    assert status == AT_RISK
    assert [one["properties"]["subject"] for one in runs] == list(policies[1:])
    bugs = [one["ruleId"] for one in runs[0]["results"] if one["level"] == "note"]
    assert "hygon-not-flushed" in bugs
    _, text = run(capsys, *policies, "--format", "junit")
    suites = junitparser.JUnitXml.fromstring(text.encode())
    assert [suite.name for suite in suites] == [
        f"{name} {path}" for name in policies[1:] for path in ("kexec", "crash")
    ]


@pytest.mark.parametrize("form", ["sarif", "junit", "prometheus", "markdown"])
def test_images_are_written_in_every_format(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], form: str
) -> None:
    # linux 5.10.262 arch/x86/kernel/process.c stop_this_cpu(): set_cpu_online(false), then WBINVD.
    image, broken = real_kernels["5.10"].path, Path(__file__)
    status, text = run(capsys, "kernel", image, broken, "--format", form)
    assert status == 1
    assert "reported-before-flush" in text
    assert "image-unreadable" in text
    assert run(capsys, "kernel", image, "--explain", "--format", form) == (1, "")


def test_the_race_is_found_at_its_function(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    _, text = run(capsys, "kernel", real_kernels["5.10"].path, "--format", "sarif")
    results = json.loads(text)["runs"][0]["results"]
    (race,) = (one for one in results if one["ruleId"] == "reported-before-flush")
    ((function,),) = (one["logicalLocations"] for one in race["locations"])
    assert function["fullyQualifiedName"] == "stop_this_cpu"
    uri = race["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == real_kernels["5.10"].path.as_uri()


def test_text_names_the_explanation_of_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = run(capsys, *HYGON)
    assert "  staleline explain stale-write-back" in text.splitlines()[:3]
    rome = CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
    _, text = run(capsys, "audit", "--snapshot", rome, "--kernel", "linux-6.5", "--cmdline=quiet")
    assert "[unknown-sev-guests]" in text
    assert "[unneeded-" in text


def test_explain_lists_every_id_and_prints_every_page(capsys: pytest.CaptureFixture[str]) -> None:
    status, listed = run(capsys, "explain")
    assert status == 0
    for name, page in explanations().items():
        assert f"  {name} " in listed
        _, text = run(capsys, "explain", name)
        words = " ".join(text.split())
        assert all(part in words for part in (name, page.title, page.means, page.do))


def test_explain_as_json_follows_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = run(capsys, "explain", "--json")
    document = document_of(text, "explain")
    assert [page["id"] for page in document["explanations"]] == list(explanations())


def test_atoms_as_json_follow_their_schema(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = run(capsys, "policies", "--atoms", "--json")
    document_of(text, "atoms")


def test_counterexamples_are_read_by_another_reader_of_itf(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, text = run(capsys, *HYGON, "--json", "--traces", tmp_path)
    for row in json.loads(text)["handovers"]:
        trace = trace_from_json(json.loads(Path(row["counterexample"]).read_text()))
        assert trace.vars == list(trace.states[0].values)
        assert [state.meta.get("sentence") for state in trace.states] == [None, *row["steps"]]
        assert trace.states[0].values["secondaries"]["secondary 1"].pc == "running"
        assert trace.states[-1].values["dram"] == "lost"


def test_explain_suggests_what_comes_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "unknown-sysfg"]) == 1
    assert "did you mean unknown-syscfg" in capsys.readouterr().err


def test_json_is_written_without_what_lays_out_text(tmp_path: Path) -> None:
    """It takes as long to import as a cached reading to print."""
    program = """
import sys
from staleline.cli.main import main
status = main(["kernel", "--format", "json", sys.argv[1]])
slow = [name for name in ("rich", "staleline.report.formats.waivers") if name in sys.modules]
print(status, slow, file=sys.stderr)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "no.such")]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert json.loads(done.stdout)["images"][0]["error"]
    assert done.stderr.splitlines()[-1] == "1 []"

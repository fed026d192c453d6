# SPDX-License-Identifier: GPL-2.0-or-later
"""Several snapshots or kernels: a line each, the worst first, one status, in every format."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from staleline.cli.main import main
from tests.conftest import RealKernel
from tests.documents import document_of

CPUID = Path(__file__).parents[1] / "data" / "cpuid"
ROME = str(CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test")
NEHALEM = str(CPUID / "libcpuid/intel-xeon-cpu-e5520.test")
HYGON = str(CPUID / "registers/hygon-c86-3250.cpuid")
SME_ON = ("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on")
KEXEC = ("--path", "kexec")


def audit(
    capsys: pytest.CaptureFixture[str], machines: tuple[str, ...], *more: str
) -> tuple[int, str, str]:
    snapshots = [word for machine in machines for word in ("--snapshot", machine)]
    status = main(["audit", *snapshots, *KEXEC, *more])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


#: Under 6.18's rule: safe without SME, unknown without SYSCFG under 6.5's, at risk on Hygon.
THREE = (NEHALEM, HYGON, ROME)


def test_each_pair_has_a_line_and_the_worst_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = audit(
        capsys, (NEHALEM, HYGON), "--kernel", "linux-6.18", "--kernel", "linux-6.5",
        "--cmdline", "mem_encrypt=on", "--msr", "0xc0010010=0x800000",
    )  # fmt: skip
    lines = out.splitlines()
    assert (status, err, len(lines)) == (2, "", 4)
    assert lines[0].startswith("kexec at-risk")
    assert HYGON in lines[0]
    assert "linux-6.18" in lines[0]
    assert "a dirty line of the old kernel can overwrite" in lines[0]
    assert all(line.startswith("kexec safe") for line in lines[1:])


@pytest.mark.parametrize(
    ("machines", "kernel", "status"),
    [
        ((NEHALEM, ROME), "linux-6.18", 0),
        ((NEHALEM, ROME), "linux-6.5", 3),
        ((ROME, NEHALEM), "linux-6.5", 3),
    ],
)
def test_the_status_is_the_worst_whatever_the_order(
    capsys: pytest.CaptureFixture[str], machines: tuple[str, ...], kernel: str, status: int
) -> None:
    told = ("--cmdline", "quiet", "--state", "reboot_force=no")
    assert audit(capsys, machines, "--kernel", kernel, *told)[0] == status


def test_at_risk_is_worse_than_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    kernels = ("--kernel", "linux-6.18", "--kernel", "6.1.0-56-amd64")
    status, out, _ = audit(capsys, (HYGON,), *kernels, *SME_ON)
    first, second = out.splitlines()
    assert (first.split(",")[0][:13], second[:13]) == ("kexec at-risk", "kexec unknown")
    assert "linux-5.18 or linux-6.5" in second
    assert status == 2
    assert audit(capsys, (HYGON,), *kernels, *SME_ON, "--fail-on", "risk")[0] == 2


def test_a_bad_file_is_named_and_the_others_are_judged(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "notes.txt"
    bad.write_text("nothing of the kind\n")
    told = ("--kernel", "linux-6.5", "--cmdline", "quiet")
    status, out, err = audit(capsys, (str(bad), NEHALEM), *told)
    assert status == 1
    assert [line[:10] for line in out.splitlines()] == ["not judged", "kexec safe"]
    (line,) = err.splitlines()
    assert line.startswith(f"staleline: {bad}: is of no known format")


def test_the_document_lists_every_pair_and_every_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lying = tmp_path / "lying.json"
    leaf = {"0x00000000:0": ["0x1", "0x68747541", "0x444d4163", "0x69746e65"]}
    lying.write_text(
        json.dumps(
            {
                "schema": "staleline/snapshot/1",
                "cpus": [{"cpuid": leaf}],
                "state": {"tdx_module": "initialized"},
            }
        )
    )
    status, out, err = audit(
        capsys, (str(lying), "/no/such", HYGON), "--kernel", "linux-6.18", *SME_ON, "--json"
    )
    found = document_of(out, "audits")
    assert (status, found["verdict"], len(err.splitlines())) == (1, "at-risk", 2)
    machines = [one["machine"] for one in found["audits"]]
    assert machines == [HYGON, str(lying)]
    assert found["audits"][1]["audit"]["contradictions"][0]["id"] == "tdx-without-intel"
    assert {one["machine"] for one in found["errors"]} == {str(lying), "/no/such"}


def test_one_pair_is_the_document_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = audit(capsys, (NEHALEM, NEHALEM), "--kernel", "linux-6.5", "--json")
    assert json.loads(out)["schema"] == "staleline/audit/1"


def test_every_format_holds_all(capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--kernel", "linux-6.18", *SME_ON[:2], "--cmdline", "mem_encrypt=on", "--format")
    machines = (NEHALEM, HYGON, "/no/such")
    sarif = json.loads(audit(capsys, machines, *more, "sarif")[1])
    assert [run["properties"]["subject"] for run in sarif["runs"]] == [HYGON, "/no/such", NEHALEM]
    junit = ET.fromstring(audit(capsys, machines, *more, "junit")[1].encode())
    assert {HYGON, NEHALEM, "/no/such"} <= {
        str(suite.get("name")).removesuffix(" kexec") for suite in junit
    }
    assert junit.get("errors") == "1"
    prometheus = audit(capsys, machines, *more, "prometheus")[1]
    samples = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(prometheus)
        for sample in family.samples
    ]
    assert len(samples) == len(set(samples))
    assert {dict(labels)["subject"] for _, labels in samples} == set(machines)
    markdown = audit(capsys, machines, *more, "markdown")[1]
    assert markdown.count("\n# ") == 2
    assert "could not be read" in markdown


def test_metrics_are_of_hosts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of one whose evidence contradicts itself; JSON has the files."""
    leaf = {"0x00000000:0": ["0x1", "0x68747541", "0x444d4163", "0x69746e65"]}
    amd = {"schema": "staleline/snapshot/1", "cpus": [{"cpuid": leaf}]}
    written = []
    for name, more in (("web1", {}), ("web2", {"state": {"tdx_module": "initialized"}})):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(amd | more | {"host": f"{name}.example"}))
        written.append(str(file))
    told = audit(capsys, tuple(written), "--kernel", "linux-6.18", "--format", "prometheus")[1]
    subjects = {
        sample.labels["subject"]
        for family in text_string_to_metric_families(told)
        for sample in family.samples
    }
    assert subjects == {"web1.example", "web2.example"}
    assert 'id="tdx-without-intel"' in told


def test_two_builds_of_one_release_are_told_apart(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    image = real_kernels["6.12"].path
    other = tmp_path / "vmlinuz-rebuilt"
    other.symlink_to(image)
    kernels = ("--kernel", str(image), "--kernel", str(other))
    _, out, _ = audit(capsys, (ROME,), *kernels, *SME_ON, "--json")
    names = [one["kernel"] for one in document_of(out, "audits")["audits"]]
    assert all(str(path) in name for path, name in zip((image, other), names, strict=True))


def test_details_are_printed_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    machines = (NEHALEM, HYGON)
    assert "machine  " not in audit(capsys, machines, "--kernel", "linux-6.5")[1]
    _, out, _ = audit(capsys, machines, "--kernel", "linux-6.5", "--verbose")
    assert out.count("SAFE on kexec") + out.count("UNKNOWN on kexec") == 2


def test_counterexamples_of_each_are_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    more = ("--kernel", "linux-6.18", *SME_ON, "--traces", str(tmp_path))
    audit(capsys, (NEHALEM, HYGON), *more)
    assert {path.parent.name for path in tmp_path.rglob("*.itf.json")} == {"2"}


def test_a_what_if_is_said_in_its_line(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    snapshot = tmp_path / "host.json"
    snapshot.write_text(
        json.dumps(
            {
                "schema": "staleline/snapshot/1",
                "cpus": [],
                "kernel": {"release": "5.10.0-46-amd64", "cmdline": "quiet"},
            }
        )
    )
    kernels = ("--kernel", "6.5.0-9", "--kernel", "linux-6.5")
    _, out, _ = audit(capsys, (str(snapshot),), *kernels)
    assert out.count("(what if: 5.10.0-46-amd64 runs there)") == 1


def test_a_name_makes_no_line_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "a\nkexec safe  b"
    file.write_bytes(Path(HYGON).read_bytes())
    _, out, _ = audit(capsys, (str(file), ROME), "--kernel", "linux-6.18", *SME_ON)
    assert len(out.splitlines()) == 2
    assert "a\\x0akexec safe  b" in out

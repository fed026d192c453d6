# SPDX-License-Identifier: GPL-2.0-or-later
"""Every JSON document follows its published schema, and says what the text says."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from staleline.cli.main import main
from tests.conftest import RealKernel
from tests.documents import document_of

CPUID = Path(__file__).parents[1] / "data" / "cpuid"
ROME = CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
SYSCFG = ("--msr", "0xc0010010=0x800000")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    status = main([str(argument) for argument in arguments])
    return status, capsys.readouterr().out


def test_every_schema_is_valid_and_names_its_document() -> None:
    schemas = list(files("staleline").joinpath("schemas").iterdir())
    assert len(schemas) >= 8
    for entry in schemas:
        schema = json.loads(entry.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        name, version = entry.name.removesuffix(".json").rsplit("-", 1)
        # ITF keeps what it does not define itself in #meta.
        named = schema["properties"].get("#meta", schema)["properties"]["schema"]
        assert named["const"] == f"staleline/{name}/{version}"


def test_policies(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "policies", "--json")
    listed = [policy["name"] for policy in document_of(text)["policies"]]
    assert status == 0
    assert {"linux-4.14", "linux-4.15", "linux-5.18", "linux-6.5", "linux-6.18"} <= set(listed)
    assert "host-mem-incoherent" in listed
    _, plain = run(capsys, "policies")
    assert all(name in plain for name in listed)


def test_one_policy_shows_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = run(capsys, "policies", "linux-5.18")
    assert "9b040453d444" in " ".join(text.split())


def test_check_finds_the_flaw_of_a_rule_of_ones_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rule = tmp_path / "mine.toml"
    rule.write_text(
        'name = "mine"\ntitle = "what the current kernel uses"\n'
        '[sites]\nstop_this_cpu = "sme_active"\nrelocate_kernel = "sme_active"\n'
    )
    status, text = run(capsys, "check", rule, "--json")
    rows = document_of(text)["handovers"]
    broken = {
        (row["platform"], row["old"], row["next"])
        for row in rows
        if row["verdict"] == "at-risk" and row["path"] == "kexec" and not row["sev_guests_run"]
    }
    assert status == 2
    assert ("amd-sme-incoherent", "off", "on") in broken
    assert not any(platform == "amd-sme-coherent" for platform, _, _ in broken)
    assert all(row["steps"] for row in rows if row["verdict"] == "at-risk")


def test_the_proposal_is_proved_on_the_kexec_path_for_any_number_of_cpus(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, text = run(capsys, "check", "host-mem-incoherent", "--json")
    kexec = [row for row in document_of(text)["handovers"] if row["path"] == "kexec"]
    assert {row["answer"] for row in kexec} == {"proved"}
    assert len({row["platform"] for row in kexec}) == 11


def test_kernel_reads_an_image_for_every_machine_that_fits(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    # linux 6.12.117: stop_this_cpu() by CPUID, relocate_kernel() by CC_ATTR_HOST_MEM_ENCRYPT,
    # and no SNP host without MSR 0xc0010132 (arch/x86/kernel/reboot.c kdump_sev_callback()).
    image = real_kernels["6.12"].path
    status, text = run(capsys, "kernel", image, "--snapshot", ROME, "--json")
    (read,) = document_of(text)["images"]
    assert status == 0
    assert read["release"] == real_kernels["6.12"].release
    assert read["on_snapshot"] == {
        "stop_this_cpu": True,
        "relocate_kernel": None,
        "crash_nmi_callback": False,
    }
    assert {row["sme_active"]: row["relocate_kernel"] for row in read["possibilities"]} == {
        True: True,
        False: False,
    }
    _, text = run(
        capsys,
        *("kernel", image, "--snapshot", ROME, "--json"),
        *(*SYSCFG, "--cmdline", "mem_encrypt=on"),
    )
    (read,) = document_of(text)["images"]
    assert read["on_snapshot"]["relocate_kernel"] is True


def test_diff_prints_the_proposals_cost(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "diff", "linux-6.5", "host-mem-incoherent", "--json")
    found = document_of(text)
    assert status == 0
    assert found["sites"]["stop_this_cpu"] == {"added": "tdx_host_enabled", "dropped": None}
    assert run(capsys, "diff", "linux-6.5", "linux-6.18")[0] == 2


def test_claims(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = run(capsys, "claims", "c", "d", "--json")
    found = {claim["id"]: claim for claim in document_of(text)["claims"]}
    assert status == 0
    assert found["c"]["status"] == "true under a condition"
    assert found["c"]["statements"][0]["steps"]
    assert found["d"]["status"] == "proved"
    _, plain = run(capsys, "claims", "c", "--full")
    assert "TRUE UNDER A CONDITION" in plain


def test_a_collected_snapshot_is_read_back_and_audits_like_the_live_host(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    snapshot = tmp_path / "host.json"
    assert run(capsys, "collect", "-o", snapshot)[0] == 0
    document_of(snapshot.read_text())
    arguments = ("audit", "--kernel", "linux-6.5", "--json")
    live, read = (run(capsys, *arguments, *more) for more in ((), ("--snapshot", snapshot)))
    documents = [json.loads(text) for _, text in (live, read)]
    files = [one.pop("provenance")["files"] for one in documents]
    assert live[0] == read[0]
    assert documents[0] == documents[1]
    assert files[0] == {}
    assert files[1] == {str(snapshot): hashlib.sha256(snapshot.read_bytes()).hexdigest()}


@pytest.mark.parametrize("spelt", ["{option} {file}", "{option}={file}"])
def test_a_document_names_the_files_that_it_is_from_however_they_are_given(
    capsys: pytest.CaptureFixture[str], spelt: str
) -> None:
    given = spelt.format(option="--snapshot", file=ROME).split(" ")
    _, text = run(capsys, "audit", *given, "--kernel=linux-6.5", "--json")
    digest = hashlib.sha256(ROME.read_bytes()).hexdigest()
    assert document_of(text)["provenance"]["files"] == {str(ROME): digest}


def test_a_written_counterexample_is_executed_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    hygon = CPUID / "registers/hygon-c86-3250.cpuid"
    _, text = run(
        capsys,
        *("audit", "--json", "--snapshot", hygon, *SYSCFG, "--cmdline", "mem_encrypt=on"),
        *("--kernel", "linux-6.18", "--path", "kexec", "--traces", tmp_path),
    )
    schema = json.loads(files("staleline").joinpath("schemas/trace-1.json").read_text())
    for row in document_of(text)["handovers"]:
        jsonschema.validate(json.loads(Path(row["counterexample"]).read_text()), schema)
        _, replayed = run(capsys, "replay", row["counterexample"], "--json")
        assert [step["sentence"] for step in document_of(replayed)["steps"]] == row["steps"]


def test_check_for_the_cpus_of_a_real_machine_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    _, text = run(capsys, "check", "linux-6.5", "--cpus", 64, "--json")
    exact = document_of(text)["exact"]
    assert exact["agrees"]
    assert exact["cpus"] == 64
    assert int(exact["states"]) > 10**40

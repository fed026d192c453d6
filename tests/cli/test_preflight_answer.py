# SPDX-License-Identifier: GPL-2.0-or-later
"""Is it right to load and start this kernel here: more than the handover's verdict says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import junitparser
import pytest

from staleline.cli.main import main
from staleline.evidence.detect import read_snapshot
from staleline.evidence.hosts.snapshot_json import to_json
from staleline.kernel.image.assembly import load_image
from tests.conftest import RealKernel
from tests.documents import check_document

CPUID = Path(__file__).parents[1] / "data" / "cpuid"
ROME = CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
ENABLED = ("--msr", "0xc0010010=0x800000", "--state", "sev_guests_run=no")
STOPPED = ("--state", "reboot_force=no", "--state", "offline_cpus=none")
OFF = ("--cmdline", "mem_encrypt=off")


class Load:
    """A load that is asked about."""

    def __init__(self, capsys: pytest.CaptureFixture[str], following: RealKernel) -> None:
        self._capsys = capsys
        self._next = ("--next", str(following.path))

    def line(self, *arguments: str) -> tuple[int, str]:
        status = main(["preflight", *self._next, *arguments])
        captured = self._capsys.readouterr()
        assert captured.err == ""
        (line,) = captured.out.splitlines()
        return status, line

    def document(self, *arguments: str) -> dict[str, Any]:
        status = main(["preflight", "--json", *self._next, *arguments])
        document: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        check_document(document)
        assert document["exit_status"] == status
        return document

    def junit(self, *arguments: str) -> junitparser.JUnitXml:
        main(["preflight", "--format", "junit", *self._next, *arguments])
        return junitparser.JUnitXml.fromstring(self._capsys.readouterr().out.encode())


@pytest.fixture
def load(capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]) -> Load:
    return Load(capsys, real_kernels["6.12"])


def host(directory: Path, machine: Path = ROME, **more: Any) -> str:
    file = directory / "host.json"
    document = to_json(read_snapshot(machine)) | more
    file.write_text(json.dumps(document))
    return str(file)


def guest(directory: Path, bit: int | None) -> str:
    """A guest on Rome; `bit` of SEV_STATUS tells of which kind, None leaves it open."""
    snapshot = to_json(read_snapshot(ROME))
    for cpu in snapshot["cpus"]:
        cpu["cpuid"]["0x00000001:0"][2] = "0xfef8320b"
        if bit is not None:
            cpu["msr"] = {"0xc0010131": f"{1 | 1 << bit:#x}"}
    file = directory / "guest.json"
    file.write_text(json.dumps(snapshot))
    return str(file)


@pytest.mark.parametrize("bit", [1, 2])
def test_a_wbinvd_that_traps_in_this_guest_is_at_risk(load: Load, tmp_path: Path, bit: int) -> None:
    # SEV-ES and SNP guests: #VC in relocate_kernel(), which has no IDT (linux 6.12.117
    # arch/x86/coco/sev/core.c; LKML March 2024, "TDX host: kexec support" v2).
    machine = ("--snapshot", guest(tmp_path, bit), "--kernel", "unconditional")
    status, line = load.line(*machine)
    assert status == 2
    assert line.startswith("at risk: kexec")
    assert "relocate_kernel executes WBINVD, which traps in this guest" in line
    assert load.document(*machine)["verdict"] == "at-risk"


def test_where_it_is_not_known_whether_it_traps_it_is_not_safe(load: Load, tmp_path: Path) -> None:
    machine = ("--snapshot", guest(tmp_path, None), "--kernel", "unconditional")
    status, line = load.line(*machine)
    assert status == 3
    assert "whether WBINVD traps here: MSR 0xc0010131 was not read" in line


def test_a_guessed_rule_is_told_and_is_not_safe(load: Load, tmp_path: Path) -> None:
    kernel = {"release": "6.12.0-1-amd64", "cmdline": "mem_encrypt=off"}
    host_file = host(tmp_path, kernel=kernel)
    machine = ("--snapshot", host_file, *ENABLED, *STOPPED, "--append", "mem_encrypt=off")
    status, line = load.line(*machine)
    assert (status, line.split(":")[0]) == (3, "unknown")
    assert "the rule of kernel 6.12.0-1-amd64 is guessed from its release number" in line
    assert "; but for that safe: " in line
    assert {one["id"] for one in load.document(*machine)["remarks"]} >= {"guessed-rule"}
    (load_suite,) = (suite for suite in load.junit(*machine) if suite.failures)
    assert [result.type for case in load_suite for result in case.result] == ["guessed-rule"]


def test_another_kernel_than_the_running_one_is_told_and_is_not_safe(
    load: Load, real_kernels: dict[str, RealKernel], tmp_path: Path
) -> None:
    image = real_kernels["6.12"]
    machine = ("--kernel", str(image.path), *ENABLED, *STOPPED, "--append", "mem_encrypt=off")
    kernel = {"release": "5.10.0-46-amd64", "cmdline": "mem_encrypt=off"}
    status, line = load.line("--snapshot", host(tmp_path, kernel=kernel), *machine)
    assert status == 3
    assert "what if: the kernel that is judged does not run here" in line
    document = load.document("--snapshot", host(tmp_path, kernel=kernel), *machine)
    assert document["audit"]["what_if"] is True
    assert document["audit"]["running"]["release"] == "5.10.0-46-amd64"
    running = {"build_id": load_image(image.path).build_id, "cmdline": "mem_encrypt=off"}
    status, line = load.line("--snapshot", host(tmp_path, kernel=running), *machine)
    assert (status, line.split(":")[0]) == (0, "safe")


def test_a_worse_verdict_is_told_first(load: Load, tmp_path: Path) -> None:
    kernel = {"release": "6.12.0-1-amd64", "cmdline": "reboot=force mem_encrypt=on"}
    status, line = load.line("--snapshot", host(tmp_path, kernel=kernel), *ENABLED)
    assert status == 2
    assert line.startswith("at risk: kexec on→on, on→off: a ")
    assert "; also the rule of kernel" in line


CRASH = ("--crash", "--snapshot", str(ROME), "--kernel", "linux-6.5", *ENABLED, *OFF)


def test_a_crash_kernel_on_a_rome_with_sme_is_loaded_if_its_risk_is_accepted(load: Load) -> None:
    """As the drop-in for kdump asks: with any command line of the crash kernel."""
    status, line = load.line(*CRASH)
    assert (status, line.split(":")[0]) == (2, "at risk")
    status, line = load.line(*CRASH, "--accept", "load-settled")
    assert status == 0
    assert line.startswith("accepted (load-settled) though at risk: crash off→on, off→off: ")
    assert line.endswith("; safe once what loading wrote has left the caches")
    document = load.document(*CRASH, "--accept", "load-settled")
    assert (document["verdict"], document["accepted"]) == ("at-risk", ["load-settled"])


def test_what_is_safe_needs_nothing_accepted(load: Load) -> None:
    document = load.document(*CRASH, "--append", "mem_encrypt=off", "--accept", "load-settled")
    assert (document["verdict"], document["accepted"]) == ("safe", [])


def test_what_is_unknown_but_settles_in_every_case_can_be_accepted(load: Load) -> None:
    unknown = ("--crash", "--snapshot", str(ROME), "--kernel", "linux-6.5", *OFF)
    assert load.document(*unknown)["verdict"] == "unknown"
    assert load.line(*unknown, "--accept", "load-settled")[0] == 0


def test_nothing_else_is_accepted_by_it(load: Load, tmp_path: Path) -> None:
    kernel = {"release": "6.12.0-1-amd64", "cmdline": "mem_encrypt=off"}
    guessed = ("--crash", "--snapshot", host(tmp_path, kernel=kernel), *ENABLED)
    status, line = load.line(*guessed, "--accept", "load-settled")
    assert status == 2
    assert "; also the rule of kernel" in line
    forced = ("--snapshot", str(ROME), "--kernel", "linux-6.5", *ENABLED)
    status, _ = load.line(
        *forced, "--cmdline", "mem_encrypt=on reboot=force", "--accept", "load-settled"
    )
    assert status == 2


def test_taint_is_told_and_changes_nothing(load: Load, tmp_path: Path) -> None:
    state = {"tainted": 4097, "tainting_modules": ["zfs:PO"], "offline_cpus": []}
    machine = ("--snapshot", host(tmp_path, state=state), "--kernel", "linux-6.18", *ENABLED[:2])
    document = load.document(*machine, "--cmdline", "mem_encrypt=on", "--append", "")
    assert document["exit_status"] == 0
    (text,) = (one["text"] for one in document["remarks"] if one["id"] == "tainted")
    assert "4097" in text
    assert "zfs:PO" in text


@pytest.mark.parametrize("probed", [["stop_this_cpu+0x0"], ["?"]])
def test_a_probed_stop_path_is_unknown(load: Load, tmp_path: Path, probed: list[str]) -> None:
    machine = ("--snapshot", host(tmp_path, state={"kprobes": probed}), "--kernel", "linux-6.18")
    status, line = load.line(*machine, *ENABLED[:2], "--cmdline", "mem_encrypt=on")
    assert status == 3
    assert "what the changed code does: " in line

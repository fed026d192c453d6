# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole way, from files to verdict and exit status, on real images and real dumps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from staleline.cli.main import main
from staleline.evidence.detect import read_snapshot
from staleline.evidence.given import with_given
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.snapshot import KernelEvidence, StateEvidence
from tests.conftest import RealKernel
from tests.documents import document_of

CPUID = Path(__file__).parents[1] / "data" / "cpuid"
ROME = CPUID / "libcpuid/amd-epyc-7742-64-core-processor-dual.test"
MILAN = CPUID / "libcpuid/amd-epyc-7763-64-core-processor-dual.test"
NEHALEM = CPUID / "libcpuid/intel-xeon-cpu-e5520.test"
HYGON = CPUID / "registers/hygon-c86-3250.cpuid"
#: With offline CPUs it is unknown (docs/findings/offline-cpus-store-behind-their-flush.md).
ALL_ONLINE = ("--state", "offline_cpus=none")
SME_ON = ("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=on", *ALL_ONLINE)
BOTH = {"stop_this_cpu": True, "relocate_kernel": True}
NEITHER = {"stop_this_cpu": False, "relocate_kernel": False}


def audit(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    """Run ``staleline audit --json``; returns exit status and validated document."""
    status = main(["audit", "--json", *map(str, arguments)])
    return status, document_of(capsys.readouterr().out, "audit")


def kexec_with_sme(
    capsys: pytest.CaptureFixture[str], dump: Path, image: Path, *more: str
) -> tuple[int, dict[str, Any]]:
    """Audit the kexec path of a machine that encrypts its memory, with a real image."""
    return audit(capsys, "--snapshot", dump, *SME_ON, "--kernel", image, "--path", "kexec", *more)


def transitions(document: dict[str, Any]) -> set[str]:
    return {f"{row['old']}→{row['next']}" for row in document["handovers"]}


def test_rome_with_sme_on_6_12_is_safe_and_both_sites_flush(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    # linux 6.12.117 arch/x86/kernel/process.c stop_this_cpu() flushes by raw CPUID,
    # machine_kexec_64.c by CC_ATTR_HOST_MEM_ENCRYPT, which is true here.
    status, document = kexec_with_sme(capsys, ROME, real_kernels["6.12"].path)
    assert status == 0
    assert document["verdict"] == "safe"
    assert transitions(document) == {"on→on", "on→off"}
    for row in document["handovers"]:
        assert row["flushes"] == BOTH
        assert row["required"] == BOTH
        assert row["unneeded"] == []
    assert document["cost"]["wbinvd"] == {"jumping_cpu": 1, "each_secondary": 1}
    assert document["given"] == ["msr 0xc0010010", "state.offline_cpus", "kernel.cmdline"]


def test_milan_is_safe_and_both_flushes_are_unneeded_because_of_coherency(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    status, document = kexec_with_sme(
        capsys, MILAN, real_kernels["6.12"].path, "--state", "sev_guests_run=no"
    )
    assert status == 0
    for row in document["handovers"]:
        assert row["flushes"] == BOTH
        assert row["required"] == NEITHER
        assert [item["site"] for item in row["unneeded"]] == ["stop_this_cpu", "relocate_kernel"]
        assert all("keeps the aliases of a line coherent" in u["reason"] for u in row["unneeded"])


def test_on_milan_lines_of_guest_keys_may_have_to_be_flushed_for_devices(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # EAX[10] is about CPUs; KVM flushes guests' pages for devices where it is set too
    # (linux 6.12.118 arch/x86/kvm/svm/sev.c:3203).
    machine = ("--snapshot", MILAN, "--msr", "0xc0010010=0x800000", "--cmdline", "quiet")
    guests = ("--state", "sev_guests_run=yes")
    rule = ("--kernel", "linux-6.5", "--path", "kexec")
    status, document = audit(capsys, *machine, *guests, *rule)
    assert (status, document["verdict"]) == (3, "unknown")
    assert any("devices" in line for line in document["unknown"])
    # A rule that flushes at both sites is safe whatever devices do.
    assert audit(capsys, *machine, *guests, "--kernel", "linux-6.18", "--path", "kexec")[0] == 0


@pytest.mark.parametrize("series", ["6.18", "7"])
def test_hygon_with_sme_is_at_risk_from_6_18_on(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], series: str
) -> None:
    # cache_state_incoherent is set in arch/x86/kernel/cpu/amd.c only; hygon.c has nothing
    # of it (linux 7.3.4), while sme_enable() does not look at the vendor.
    status, document = kexec_with_sme(capsys, HYGON, real_kernels[series].path)
    assert status == 2
    assert document["verdict"] == "at-risk"
    for row in document["handovers"]:
        assert row["verdict"] == "at-risk"
        assert row["flushes"] == NEITHER
        assert row["check"]["property"] == "P1"
        assert "destroys what the next kernel wrote" in row["steps"][-1]


def test_hygon_with_sme_is_safe_on_6_12(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    status, document = kexec_with_sme(capsys, HYGON, real_kernels["6.12"].path)
    assert (status, document["verdict"]) == (0, "safe")


def test_nehalem_under_the_unchecked_leaf_flushes_on_phantom_sme(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Linux commit 9b040453d444: Intel answers leaf 0x8000001F with its highest basic leaf.
    machine = ("--snapshot", NEHALEM, "--cmdline", "quiet")
    _, document = audit(capsys, *machine, "--kernel", "linux-5.18", "--path", "kexec")
    (row,) = document["handovers"]
    assert document["layers"]["hardware"]["sme"] is False
    assert document["layers"]["hardware"]["unchecked_sme_bit"] is True
    assert row["flushes"] == {"stop_this_cpu": True, "relocate_kernel": False}
    assert row["required"] == NEITHER
    assert [item["site"] for item in row["unneeded"]] == ["stop_this_cpu"]


def test_5_10_reports_a_cpu_stopped_before_its_flush(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    # linux 5.10.262 arch/x86/kernel/process.c stop_this_cpu(): set_cpu_online(false), then
    # WBINVD; commit 1f5e7eb7868e, which turned this round, is not in 5.10.
    status, document = kexec_with_sme(capsys, ROME, real_kernels["5.10"].path)
    assert status == 2
    assert {row["check"]["property"] for row in document["handovers"]} == {"P2"}
    assert all(row["flushes"] == BOTH for row in document["handovers"])


def test_missing_evidence_that_matters_is_named_with_how_to_get_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # With SME on, both sites flush; with SME off and SEV guests run, 6.5's rule leaves the
    # jumping CPU unflushed. A dump tells neither SYSCFG nor the command line nor the guests.
    status, document = audit(capsys, "--snapshot", ROME, "--kernel", "linux-6.5", "--path", "kexec")
    assert (status, document["verdict"]) == (3, "unknown")
    assert any("sev_guests_run" in line for line in document["unknown"])


def test_missing_evidence_that_cannot_matter_does_not_prevent_a_verdict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = ("--snapshot", ROME, "--state", "reboot_force=no")
    status, document = audit(capsys, *machine, "--kernel", "linux-6.18", "--path", "kexec")
    assert (status, document["verdict"]) == (0, "safe")
    assert transitions(document) == {"on→on", "on→off", "off→on", "off→off"}


def test_a_release_that_fits_two_rules_is_unknown_where_they_differ(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, document = audit(
        capsys, "--snapshot", ROME, *SME_ON, "--kernel", "6.1.0-56-amd64", "--path", "kexec"
    )
    assert (status, document["verdict"]) == (3, "unknown")
    assert document["kernel"]["name"] == "linux-5.18 or linux-6.5"
    assert "weaker evidence" in document["kernel"]["evidence"]
    assert any("linux-5.18 or linux-6.5" in line for line in document["unknown"])


@pytest.mark.parametrize(
    ("following", "expected"),
    [("on", {"on→on"}), ("off", {"on→off"}), ("same", {"on→on"}), ("any", {"on→on", "on→off"})],
)
def test_only_the_transitions_asked_for_are_judged(
    capsys: pytest.CaptureFixture[str], following: str, expected: set[str]
) -> None:
    _, document = audit(
        capsys, "--snapshot", ROME, *SME_ON, "--kernel", "linux-6.5", "--next", following
    )
    assert transitions(document) == expected


def test_counterexamples_are_written_as_itf(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, document = audit(
        capsys,
        *("--snapshot", HYGON, *SME_ON, "--kernel", "linux-6.18"),
        *("--path", "kexec", "--traces", tmp_path / "traces"),
    )
    assert status == 2
    for row in document["handovers"]:
        trace = json.loads(Path(row["counterexample"]).read_text())
        assert trace["#meta"]["format"] == "ITF"
        assert len(trace["states"]) == len(row["steps"]) + 1


def test_what_makes_the_exit_status_non_zero_can_be_chosen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unknown = ("--snapshot", ROME, "--kernel", "linux-6.5", "--path", "kexec")
    no_guests = ("--state", "sev_guests_run=no")
    milan = ("--snapshot", MILAN, *SME_ON, *no_guests, "--kernel", "linux-6.5", "--path", "kexec")
    assert audit(capsys, *unknown)[0] == 3
    assert audit(capsys, *unknown, "--fail-on", "risk")[0] == 0
    assert audit(capsys, *milan)[0] == 0
    assert audit(capsys, *milan, "--fail-on", "unneeded")[0] == 2


def test_evidence_that_contradicts_the_kernel_gives_no_verdict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(
        [
            *("audit", "--snapshot", str(ROME), "--kernel", "linux-6.5"),
            *("--msr", "0xc0010010=0x800000", "--cmdline", "mem_encrypt=off"),
            *("--state", "sme_active=yes"),
        ]
    )
    captured = capsys.readouterr()
    assert status == 1
    assert captured.out == ""
    assert "state.sme_active is True and this kernel" in captured.err
    assert "(sme-active-against-kernel)" in captured.err


def test_the_text_names_verdict_reason_and_steps(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(
        ["audit", "--snapshot", str(HYGON), *SME_ON, "--kernel", "linux-6.18", "--path", "kexec"]
    )
    text = capsys.readouterr().out
    assert status == 2
    assert text.startswith("AT-RISK on kexec: a dirty line of the old kernel can overwrite")
    assert "Counterexample, kexec on→on" in text
    assert "relocate_kernel" in text
    assert "\x1b" not in text


def test_reboot_force_stops_nobody_and_no_flush_helps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # linux 5.10.262 arch/x86/kernel/smp.c:152 and 7.3.4 smp.c:155: native_stop_other_cpus()
    # returns at once; machine_shutdown() calls it on the way to a kexec as well.
    rome = ("--snapshot", ROME, "--msr", "0xc0010010=0x800000", "--kernel", "linux-6.18")
    for options, status in (("reboot=pci,force", 2), ("reboot=f", 2), ("reboot=pci", 0)):
        found, document = audit(
            capsys, *rome, "--cmdline", f"mem_encrypt=on {options}", "--path", "kexec"
        )
        assert found == status
        for row in document["handovers"]:
            stopped = status == 0
            assert row["flushes"]["stop_this_cpu"] is stopped
            assert row["required"]["stop_this_cpu"] is (True if stopped else None)


def test_an_odd_mem_encrypt_leaves_open_what_kernels_make_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # 5.10.262 arch/x86/mm/mem_encrypt_identity.c looks at the last instance, 7.3.4
    # arch/x86/boot/compressed/misc.c parse_mem_encrypt() at where "on" first stands.
    either, on = {"off→on", "off→off", "on→on", "on→off"}, {"on→on", "on→off"}
    for kernel, expected in (("linux-6.5", either), ("linux-6.18", on)):
        _, document = audit(
            capsys,
            *("--snapshot", ROME, "--msr", "0xc0010010=0x800000", "--kernel", kernel),
            *("--cmdline", "mem_encrypt=on mem_encrypt=perhaps"),
        )
        assert transitions(document) == expected


def test_what_no_mem_encrypt_means_is_known_of_kernels_without_a_default_to_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # CONFIG_AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT, of 4.14 to 6.8 (commit 29956748339a).
    for kernel, value in (("linux-6.5", None), ("linux-6.18", "off"), ("7.3.4", "off")):
        _, document = audit(
            capsys,
            *("--snapshot", ROME, "--msr", "0xc0010010=0x800000", "--kernel", kernel),
            *("--cmdline", "quiet"),
        )
        assert document["layers"]["kernel"]["mem_encrypt"] == value


@pytest.mark.parametrize(
    ("cmdline", "state"),
    [
        # Words of bootconfig, in front, are not seen by startup code.
        (
            "mem_encrypt=on  BOOT_IMAGE=/vmlinuz quiet bootconfig",
            StateEvidence(sev_guests_run=True),
        ),
        # reboot_setup() gets them without their quotes (linux 7.3.4 lib/cmdline.c next_arg()).
        (
            'reboot="force"  BOOT_IMAGE=/vmlinuz mem_encrypt=on bootconfig',
            StateEvidence(offline_cpus=()),
        ),
    ],
)
def test_words_of_bootconfig_are_never_the_reason_to_call_it_safe(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    cmdline: str,
    state: StateEvidence,
) -> None:
    rome = with_given(read_snapshot(ROME), msr=["0xc0010010=0x800000"])
    kernel = KernelEvidence("6.12.117+deb13-cloud-amd64", cmdline)
    file = tmp_path / "host.json"
    file.write_text(snapshot_text(replace(rome, kernel=kernel, state=state)))
    status, document = audit(capsys, "--snapshot", file, "--kernel", "linux-6.5", "--path", "kexec")
    facts = document["layers"]["kernel"]
    assert facts["mem_encrypt"] is None
    # What no word turned on may have been turned on since, in a file that was not read.
    assert facts["reboot_force"] is (True if "reboot" in cmdline else None)
    assert status == (2 if facts["reboot_force"] else 3)

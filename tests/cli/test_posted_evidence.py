# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence as people post it never gets a verdict that it does not bear out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from staleline.cli.main import main
from tests.conftest import RealKernel

POSTED = Path(__file__).parents[1] / "data" / "posted"
SAFE, AT_RISK, UNKNOWN = 0, 2, 3


def audited(name: str, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    status = main(["audit", "--json", "--snapshot", str(POSTED / name), *arguments])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "rule", "facts"),
    [
        # An unknown CPU is one of AMD's, Hygon's, Intel's or another, not one without encryption.
        ("empty-snapshot.json", "linux-6.5", {}),
        # linux 7.3.4 arch/x86/kernel/smpboot.c prints the brand, family, model and stepping.
        ("cpu-line.dmesg", "linux-6.5", {}),
        # linux 7.3.4 arch/x86/virt/vmx/tdx/tdx.c: KeyIDs are Intel's; what became of the module
        # is not in the text.
        ("tdx-host.dmesg", "linux-6.5", {}),
        # linux 6.12.118 arch/x86/virt/svm/sev.c prints the RMP's range where SNP is enabled.
        ("snp-host.dmesg", "linux-6.5", {("firmware", "snp_enabled"): True}),
        # linux 5.4 arch/x86/mm/mem_encrypt.c has other words for SME than 5.10 and later.
        ("sme-5.4.dmesg", "linux-4.15", {("kernel", "sme_active"): True}),
        # A text that was filtered by a word proves nothing by what it lacks.
        ("filtered.dmesg", "linux-6.5", {("kernel", "sme_active"): None}),
        ("aida-two-cpus-no-heading.txt", "linux-6.5", {("hardware", "sme"): True}),
        ("aida-registers-heading.txt", "linux-6.5", {("hardware", "sme"): True}),
        # Only AMD's code clears these flags where SYSCFG[23] is 0 (linux 6.18
        # arch/x86/kernel/cpu/amd.c against hygon.c).
        ("hygon-flags.cpuinfo", "linux-6.18", {("firmware", "sme_enabled"): None}),
        ("lscpu-wrapped.txt", "linux-6.5", {}),
    ],
)
def test_what_a_text_leaves_open_stays_open(
    capsys: pytest.CaptureFixture[str],
    name: str,
    rule: str,
    facts: dict[tuple[str, str], bool | None],
) -> None:
    status, document = audited(name, "--kernel", rule, capsys=capsys)
    assert status == UNKNOWN
    assert document["unknown"]
    layers = document["layers"]
    assert {(layer, fact): layers[layer][fact] for layer, fact in facts} == facts


@pytest.mark.parametrize(
    ("rule", "statuses"), [("linux-6.5", {AT_RISK}), ("linux-7.2", {SAFE, AT_RISK, UNKNOWN})]
)
def test_a_module_that_was_initialised_means_a_host_that_used_tdx(
    capsys: pytest.CaptureFixture[str], rule: str, statuses: set[int]
) -> None:
    # linux 7.3.4 arch/x86/virt/vmx/tdx/tdx.c init_tdx_module(): only after many SEAMCALLs.
    name = "tdx-host-initialized.dmesg"
    assert audited(name, "--kernel", rule, capsys=capsys)[0] in statuses


def test_a_guest_whose_wbinvd_traps_has_the_fault_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # WBINVD raises #VC in SEV-ES guests (linux 6.12.118 arch/x86/coco/sev/core.c).
    _, document = audited("sev-es-guest.dmesg", "--kernel", "unconditional", capsys=capsys)
    assert all(row["faults"] for row in document["handovers"])


def test_printk_prefixes_with_caller_ids_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    _, document = audited("caller-prefix.dmesg", "--kernel", "linux-6.5", capsys=capsys)
    assert document["layers"]["kernel"]["sme_active"] is True
    assert document["layers"]["kernel"]["release"] == "6.16.1-1-default"


def test_registers_parted_by_spaces_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    _, document = audited("aida-spaces.txt", "--kernel", "linux-6.5", capsys=capsys)
    assert document["layers"]["hardware"]["sme"] is False


def test_a_sev_guest_has_aliases_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    # linux 6.12.118 arch/x86/mm/pat/set_memory.c:2210, mm/mem_encrypt_amd.c:251: Linux flushes
    # for them in guests; EAX[10] of Rome is clear.
    given = ("--msr", "0xc0010131=0x1", "--cmdline", "quiet", "--kernel", "linux-6.5")
    assert audited("rome-sev-guest.txt", *given, capsys=capsys)[0] in {AT_RISK, UNKNOWN}


def test_a_dom0_does_not_jump_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    # Xen (xen-project/xen 373d93c) xen/arch/x86/x86_64/kexec_reloc.S jumps, without WBINVD.
    given = ("--cmdline", "mem_encrypt=on", "--kernel", "linux-6.5")
    assert audited("rome-xen-dom0.txt", *given, capsys=capsys)[0] == UNKNOWN


def test_guests_that_could_not_have_run_are_a_contradiction(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # SNP needs SYSCFG[23] (linux 6.12.118 arch/x86/kernel/cpu/amd.c:362).
    given = ("--kernel", "linux-6.5", "--state", "sev_guests_run=yes")
    # Rome has no SNP either; Milan has.
    file = str(POSTED / "syscfg24only.json")
    assert main(["audit", "--snapshot", file, *given]) == 1
    assert "register-without-feature" in capsys.readouterr().err
    milan = str(POSTED.parent / "cpuid/libcpuid/amd-epyc-7763-64-core-processor-dual.test")
    assert main(["audit", "--snapshot", milan, "--msr", "0xc0010010=0x1000000", *given]) == 1
    assert "facts-exclude-each-other" in capsys.readouterr().err


def test_words_of_bootconfig_stand_on_the_command_line_and_startup_code_does_not_see_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # linux 7.3.4 init/main.c setup_command_line(), arch/x86/boot/startup/sme.c sme_enable().
    given = ("--kernel", "linux-6.5", "--path", "kexec")
    status, document = audited("bootconfig-mem_encrypt.json", *given, capsys=capsys)
    assert status != SAFE
    assert document["layers"]["kernel"]["mem_encrypt"] is None
    # lib/cmdline.c next_arg() takes the quotes away.
    assert audited("bootconfig-reboot.json", *given, capsys=capsys)[0] == AT_RISK


def test_an_image_that_does_not_run_there_is_a_what_if(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    image = str(real_kernels["6.12"].path)
    _, document = audited("buildid-mismatch.json", "--kernel", image, capsys=capsys)
    assert document["what_if"] is True
    assert document["running"]["release"] == "5.10.0-46-amd64"


@pytest.mark.parametrize("series", ["7"])
def test_a_module_that_an_image_cannot_have_used_is_a_contradiction(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel], series: str
) -> None:
    # Debian builds 7.3 without CONFIG_INTEL_TDX_HOST (config-7.3.4+deb13-amd64).
    file, image = str(POSTED / "spr-tdx-init-debian.json"), str(real_kernels[series].path)
    assert main(["audit", "--snapshot", file, "--kernel", image]) == 1
    assert "tdx-without-seamcalls" in capsys.readouterr().err


def test_cpus_that_are_offline_and_woken_at_the_kexec_are_in_the_verdict(
    capsys: pytest.CaptureFixture[str], real_kernels: dict[str, RealKernel]
) -> None:
    # linux 7.3.4 arch/x86/kernel/smp.c:165, smpboot.c:1459: each stores that it woke, and halts.
    image = str(real_kernels["7"].path)
    asked = ("--kernel", image, "--path", "kexec", "--state", "reboot_force=no")
    status, document = audited("rome-nosmt.json", *asked, capsys=capsys)
    assert status == UNKNOWN
    assert any("offline" in line for line in document["unknown"])

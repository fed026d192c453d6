# SPDX-License-Identifier: GPL-2.0-or-later
"""What kernel messages say of encryption and guests; each with the source that prints it."""

from __future__ import annotations

import pytest

from staleline.evidence import kernel_log, staleline_collect
from staleline.evidence.snapshot import LogEvidence, Snapshot, StateEvidence
from tests.evidence.writers import KMSG


def log(message: str) -> LogEvidence:
    complete, messages = staleline_collect._messages(KMSG.format(message=message))
    lines = tuple(line for line in messages if staleline_collect.is_relevant(line))
    return LogEvidence(lines, complete)


@pytest.mark.parametrize(
    ("message", "active"),
    [
        # Linux 5.10.262, 6.1.192, 6.12.117 arch/x86/mm/mem_encrypt.c
        ("AMD Memory Encryption Features active: SME", True),
        ("AMD Memory Encryption Features active: SEV SEV-ES", False),
        ("Memory Encryption Features active: AMD SME", True),
        ("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP", False),
        ("Memory Encryption Features active: Intel TDX", False),
        ("ACPI: Early table checksum verification disabled", False),
    ],
)
def test_sme_active(message: str, active: bool) -> None:
    assert kernel_log.sme_active(log(message)) is active


@pytest.mark.parametrize(
    ("message", "state"),
    [
        # Linux 6.12.117 and 7.3.4 arch/x86/virt/vmx/tdx/tdx.c
        ("virt/tdx: module initialized", "initialized"),
        ("virt/tdx: TDX-Module initialized", "initialized"),
        ("virt/tdx: module initialization failed (-22)", "failed"),
        ("virt/tdx: BIOS enabled: private KeyID range [32, 64)", "not-initialized"),
    ],
)
def test_tdx_module(message: str, state: str) -> None:
    assert kernel_log.tdx_module(log(message)) == state


@pytest.mark.parametrize(
    ("message", "run"),
    [
        # Linux 5.10.262 and 6.1.192 arch/x86/kvm/svm/sev.c sev_hardware_setup()
        ("SVM: SEV supported", None),
        ("kvm_amd: SEV enabled (ASIDs 255 - 509)", None),
        ("kvm_amd: SEV disabled (ASIDs 255 - 509)", False),
        ("ccp 0000:22:00.1: SEV API:1.55 build:31", False),
    ],
)
def test_sev_guests_cannot_have_run_without_kvm_offering_them(
    message: str, run: bool | None
) -> None:
    assert kernel_log.sev_guests_run(log(message)) is run


def test_silence_of_a_log_whose_beginning_is_gone_means_nothing() -> None:
    complete, messages = staleline_collect._messages("6,9041,1,-;usb 1-1: new device\n")
    log = LogEvidence(tuple(messages), complete)
    assert not log.complete
    assert kernel_log.sme_active(log) is None
    assert kernel_log.tdx_module(log) is None
    assert kernel_log.sev_guests_run(log) is None


@pytest.mark.parametrize(
    ("peak", "run"),
    [
        # Linux 6.12.117 kernel/cgroup/misc.c misc_cg_peak_show() lists a kind only while
        # it has capacity.
        ({"sev": 0, "sev_es": 0}, False),
        ({"sev": 0, "sev_es": 3}, True),
        ({"sev": 2}, True),
        ({"sev": 0}, None),
        ({"tdx": 0}, None),
        ({}, None),
        (None, None),
    ],
)
def test_guest_keys_ever_taken_tell_whether_sev_guests_have_run(
    peak: dict[str, int] | None, run: bool | None
) -> None:
    machine = Snapshot((), state=StateEvidence(guest_ids_peak=peak))
    assert kernel_log.with_state(machine).state.sev_guests_run is run

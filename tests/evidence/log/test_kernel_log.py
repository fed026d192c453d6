# SPDX-License-Identifier: GPL-2.0-or-later
"""What kernel messages prove, what their absence proves, and where they contradict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.evidence import staleline_collect
from staleline.evidence.consistency import contradictions, require_consistent
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.log import kernel_log
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    CpuEvidence,
    KernelEvidence,
    LogEvidence,
    Snapshot,
    StateEvidence,
)
from tests.evidence.writers import KMSG

RELEASE = "6.12.107+deb13-amd64"


def log(message: str) -> LogEvidence:
    complete, messages = staleline_collect._messages(KMSG.format(message=message))
    lines = tuple(line for line in messages if staleline_collect.is_relevant(line))
    return LogEvidence(lines, complete)


def state(evidence: LogEvidence, release: str | None = RELEASE) -> StateEvidence:
    machine = Snapshot((), kernel=KernelEvidence(release=release), log=evidence)
    return kernel_log.with_state(machine).state


@pytest.mark.parametrize(
    ("message", "active"),
    [
        # Linux 5.10.262, 6.1.192, 6.12.117 arch/x86/mm/mem_encrypt.c
        ("AMD Memory Encryption Features active: SME", True),
        ("AMD Memory Encryption Features active: SEV SEV-ES", False),
        ("Memory Encryption Features active: AMD SME", True),
        ("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP", False),
        ("Memory Encryption Features active: Intel TDX", False),
        # Linux 4.14 and 5.8 arch/x86/mm/mem_encrypt.c mem_encrypt_init()
        ("AMD Secure Memory Encryption (SME) active", True),
        ("AMD Secure Encrypted Virtualization (SEV) active", False),
        ("ACPI: Early table checksum verification disabled", False),
    ],
)
def test_sme_active(message: str, active: bool) -> None:
    assert state(log(message)).sme_active is active


def test_a_line_of_features_that_is_cut_before_the_first_tells_none() -> None:
    cut = LogEvidence(("AMD Memory Encryption Features active:",), complete=False)
    assert state(cut).sme_active is None


@pytest.mark.parametrize(
    ("message", "module"),
    [
        # Linux 6.12.117 and 7.3.4 arch/x86/virt/vmx/tdx/tdx.c
        ("virt/tdx: module initialized", "initialized"),
        ("virt/tdx: TDX-Module initialized", "initialized"),
        ("virt/tdx: module initialization failed (-22)", "failed"),
        ("virt/tdx: initialization failed: Hibernation support is enabled", "not-initialized"),
        ("virt/tdx: BIOS enabled: private KeyID range [32, 64)", "not-initialized"),
    ],
)
def test_tdx_module(message: str, module: str) -> None:
    assert state(log(message)).tdx_module == module


@pytest.mark.parametrize(
    ("message", "run"),
    [
        # Linux 5.10.262 and 6.1.192 arch/x86/kvm/svm/sev.c sev_hardware_setup()
        ("SVM: SEV supported", None),
        ("SEV supported: 410 ASIDs", None),
        ("kvm_amd: SEV enabled (ASIDs 255 - 509)", None),
        ("ccp 0000:22:00.1: SEV API:1.55 build:31", False),
    ],
)
def test_sev_guests_cannot_have_run_without_kvm_offering_them(
    message: str, run: bool | None
) -> None:
    assert state(log(message)).sev_guests_run is run


class TestSilence:
    @pytest.mark.parametrize("release", [None, "4.12.14-sles", "7.4.0", "not a release", "6"])
    def test_of_a_release_that_was_not_read_proves_nothing(self, release: str | None) -> None:
        told = state(LogEvidence((), complete=True), release)
        assert (told.sme_active, told.tdx_module, told.sev_guests_run) == (None, None, None)

    @pytest.mark.parametrize("release", ["4.14.336", "5.4.0-42-generic", "6.12.1", "7.3.4"])
    def test_of_one_that_was_read_proves_what_the_kernel_would_have_said(
        self, release: str
    ) -> None:
        told = state(LogEvidence((), complete=True), release)
        assert told.sme_active is False
        assert told.tdx_module == "not-initialized"
        assert told.sev_guests_run is False

    def test_of_a_log_that_is_not_whole_proves_nothing(self) -> None:
        assert kernel_log.told(LogEvidence((), complete=False), RELEASE) == {}

    @pytest.mark.parametrize(
        "records",
        [
            "6,9041,1,-;usb 1-1: new device\n",  # its beginning is gone
            "6,0,0,-;Linux version 6.12.1\n6,2,1,-;later\n",  # one is gone
            "6,0,0,-;Linux version 6.12.1\n6,1,1,-;x\n6,1,1,-;x\n",
            "6,0,0,-;Linux version 6.12.1\n6,-,0,-;\n",  # reading stopped before the end
            "",
        ],
    )
    def test_records_with_a_gap_are_not_whole(self, records: str) -> None:
        assert not staleline_collect._messages(records)[0]

    def test_records_of_programs_count_for_the_gap_and_are_no_messages(self) -> None:
        records = "6,0,0,-;Linux version 6.12.1\n30,1,9,-;systemd[1]: kexec\n6,2,9,-;SME\n"
        assert staleline_collect._messages(records) == (True, ["Linux version 6.12.1", "SME"])


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


class TestVendor:
    @pytest.mark.parametrize(
        ("name", "vendor"),
        [
            ("AMD EPYC 7742 64-Core Processor", "AuthenticAMD"),
            ("Intel(R) Xeon(R) Platinum 8480+", "GenuineIntel"),
            ("Hygon C86 7285 32-core Processor", "HygonGenuine"),
            # print_cpu_info() puts the vendor's name before a name without it.
            ("AMD QEMU Virtual CPU version 2.5+", "AuthenticAMD"),
            ("AMD Intel Xeon Processor (Skylake)", None),
            ("ZHAOXIN KaiSheng KH-37800D", None),
        ],
    )
    def test_is_the_one_that_the_name_of_the_cpu_holds(self, name: str, vendor: str) -> None:
        line = f"smpboot: CPU0: {name} (family: 0x17, model: 0x31, stepping: 0x0)"
        told = kernel_log.told(LogEvidence((line,), complete=False))
        assert (told["vendor"].value if "vendor" in told else None) == vendor
        assert told["family"].value == 0x17

    def test_decides_what_kvm_offering_sev_proves(self) -> None:
        # Only AMD's code clears the flag where SYSCFG[23] is 0 (Linux 6.12.118
        # arch/x86/kernel/cpu/amd.c:602-607 against hygon.c).
        offered = LogEvidence(("kvm_amd: SEV enabled (ASIDs 1 - 15)",), complete=False)
        assert kernel_log.told(offered, vendor="AuthenticAMD")["sme_enabled"].value is True
        assert "sme_enabled" not in kernel_log.told(offered, vendor="HygonGenuine")
        assert "sme_enabled" not in kernel_log.told(offered)


class TestContradiction:
    def refused(self, machine: Snapshot) -> str:
        with pytest.raises(ContradictionError) as caught:
            require_consistent(machine, "file")
        return str(caught.value)

    def test_of_two_messages_that_cannot_be_of_one_boot(self) -> None:
        text = "tdx: Guest detected\nMemory Encryption Features active: AMD SME\n"
        with pytest.raises(ContradictionError, match="log-against-log"):
            parse_snapshot(text, "file")

    def test_of_a_message_and_the_registers(self) -> None:
        cpu = CpuEvidence(CpuidTable({}), msr={0x87: 32 << 32 | 31})
        line = "virt/tdx: BIOS enabled: private KeyID range [64, 128)"
        machine = Snapshot((cpu,), log=LogEvidence((line,), complete=False))
        message = self.refused(machine)
        assert "log says tdx_keyids is 64" in message
        assert "cpus[0].msr.0x87 says 32 (log-against-registers" in message
        same = replace(cpu, msr={0x87: 64 << 32 | 63})
        assert kernel_log.told_twice(machine.log) == ()
        assert contradictions(replace(machine, cpus=(same,))) == ()

    @pytest.mark.parametrize(
        ("vendor", "syscfg", "refused"),
        [
            (b"AuthenticAMD", 0, True),
            (b"AuthenticAMD", 1 << 23, False),
            (b"HygonGenuine", 0, False),  # whose code clears no flag
        ],
    )
    def test_of_what_a_message_proves_on_one_vendors_cpus(
        self, vendor: bytes, syscfg: int, refused: bool
    ) -> None:
        ebx, edx, ecx = (int.from_bytes(vendor[at : at + 4], "little") for at in (0, 4, 8))
        cpu = CpuEvidence(CpuidTable({(0, 0): (0x10, ebx, ecx, edx)}), msr={0xC001_0010: syscfg})
        lines = ("kvm_amd: SEV enabled (ASIDs 1 - 509)",)
        machine = Snapshot((cpu,), log=LogEvidence(lines, complete=False))
        assert bool(contradictions(machine)) is refused

    def test_of_a_message_that_needs_another_vendor(self) -> None:
        intel = CpuidTable({(0, 0): (0x1B, 0x756E6547, 0x6C65746E, 0x49656E69)})
        lines = ("Memory Encryption Features active: AMD SEV",)
        machine = Snapshot((CpuEvidence(intel),), log=LogEvidence(lines, complete=False))
        assert "needs a CPU of AuthenticAMD or HygonGenuine" in self.refused(machine)


@pytest.mark.parametrize(
    ("lines", "hypervisor"),
    [
        # An SNP host that is a guest of Hyper-V's, as Azure has them: AMDESE/AMDSEV's kernels print
        # the table there too, which 6.9 asks for on bare metal alone (arch/x86/kernel/cpu/amd.c).
        (("SEV-SNP: RMP table physical range [0x00000008b7300000 - 0x00000008bfffffff]",), None),
        (
            (
                "SEV-SNP: RMP table physical range [0x00000008b7300000 - 0x00000008bfffffff]",
                "kvm_amd: kvm_amd: Hyper-V enlightened NPT TLB flush enabled",
            ),
            True,
        ),
        (("SVM: kvm: Hyper-V Direct TLB flush enabled",), True),
        (("KVM: vmx: using Hyper-V Enlightened VMCS",), True),
    ],
)
def test_who_is_below_a_hypervisor_himself(lines: tuple[str, ...], hypervisor: bool | None) -> None:
    told = kernel_log.told(LogEvidence(lines, complete=False))
    assert (told["hypervisor"].value if "hypervisor" in told else None) is hypervisor

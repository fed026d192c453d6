# SPDX-License-Identifier: GPL-2.0-or-later
"""Collecting from a host: this one, and file trees laid out as a host's."""

from __future__ import annotations

import errno
import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import staleline
from staleline.errors import EvidenceError
from staleline.evidence import dev_cpu, host_files, kernel_log
from staleline.evidence.detect import read_snapshot
from staleline.evidence.live import collect
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import KernelEvidence, Snapshot, StateEvidence
from staleline.evidence.snapshot_json import parse, snapshot_text
from staleline.evidence.user_cpuid import read_allowed_cpus

DATA = Path(__file__).parents[1] / "data" / "cpuid"
RELEASE = "6.12.107+deb13-amd64"
KMSG = (
    "6,0,0,-;Linux version 6.12.107+deb13-amd64\n"
    "6,1,10,-;Command line: mem_encrypt=on\n"
    " SUBSYSTEM=pci;not a message\n"
    "6,2,20,-;{message}\n"
)


def device_of(cpuid: CpuidTable, msr: dict[int, int]) -> dev_cpu.ReadAt:
    """Answers as /dev/cpu/N/cpuid (16 bytes) and /dev/cpu/N/msr (8 bytes) do."""

    def read_at(device: int, size: int, offset: int) -> bytes:
        if size == 16:
            registers = cpuid.read(offset & 0xFFFFFFFF, offset >> 32) or (0, 0, 0, 0)
            return struct.pack("<4I", *registers)
        if offset not in msr:
            raise OSError(errno.EIO, "Input/output error")
        return struct.pack("<Q", msr[offset])

    return read_at


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.fixture
def rome() -> Snapshot:
    return read_snapshot(DATA / "libcpuid/amd-epyc-7742-64-core-processor-dual.test")


@pytest.fixture
def rome_device(rome: Snapshot) -> dev_cpu.ReadAt:
    return device_of(rome.cpus[0].cpuid, {0xC0010010: 0xF40000})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The file tree of a Rome server with SME on and one CPU offline."""
    for device in ("0/cpuid", "0/msr", "1/cpuid", "1/msr"):
        write(tmp_path, f"dev/cpu/{device}", "")
    write(tmp_path, "dev/kmsg", KMSG.format(message="Memory Encryption Features active: AMD SME"))
    write(tmp_path, "proc/sys/kernel/osrelease", RELEASE + "\n")
    write(tmp_path, "proc/sys/kernel/hostname", "node17\n")
    write(tmp_path, "proc/cmdline", "BOOT_IMAGE=/vmlinuz mem_encrypt=on\n")
    write(tmp_path, "sys/devices/system/cpu/present", "0-2\n")
    write(tmp_path, "sys/devices/system/cpu/online", "0-1\n")
    write(tmp_path, "sys/kernel/kexec_loaded", "1\n")
    write(
        tmp_path,
        f"boot/config-{RELEASE}",
        "CONFIG_AMD_MEM_ENCRYPT=y\n# CONFIG_INTEL_TDX_HOST is not set\n",
    )
    write(
        tmp_path,
        "proc/cpuinfo",
        "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 49\n"
        "stepping\t: 0\nflags\t\t: fpu sme sev\n",
    )
    return tmp_path


def test_a_tree_gives_what_it_holds(
    tree: Path, rome: Snapshot, rome_device: dev_cpu.ReadAt
) -> None:
    snapshot = collect(tree, read_at=rome_device)
    assert len(snapshot.cpus) == 2
    for leaf in (0, 1, 7, 0x80000000, 0x80000008, 0x8000001F):
        assert snapshot.cpus[1].cpuid.recorded(leaf) == rome.cpus[0].cpuid.recorded(leaf)
    caches = [snapshot.cpus[0].cpuid.recorded(0x8000001D, subleaf) for subleaf in range(4)]
    assert caches == [rome.cpus[0].cpuid.recorded(0x8000001D, subleaf) for subleaf in range(4)]
    assert snapshot.cpus[0].msr == {0xC0010010: 0xF40000}
    assert 0xC0010131 in snapshot.cpus[0].msr_faults
    assert snapshot.host == "node17"
    assert snapshot.kernel.release == RELEASE
    assert snapshot.kernel.cmdline == "BOOT_IMAGE=/vmlinuz mem_encrypt=on"
    assert snapshot.kernel.config is not None
    assert snapshot.kernel.config["CONFIG_AMD_MEM_ENCRYPT"] == "y"
    assert snapshot.kernel.config["CONFIG_INTEL_TDX_HOST"] == "n"
    assert snapshot.cpuinfo is not None
    assert "sme" in snapshot.cpuinfo.flags
    assert snapshot.state == StateEvidence(
        sme_active=True,
        tdx_module="not-initialized",
        sev_guests_run=False,
        offline_cpus=(2,),
        kexec_loaded=1,
    )
    assert snapshot.notes == ()


def test_what_is_missing_is_noted_with_the_remedy(tmp_path: Path) -> None:
    snapshot = collect(tmp_path)
    assert snapshot.cpus == ()
    assert snapshot.kernel == KernelEvidence()
    assert snapshot.state == StateEvidence()
    notes = {note.what: note.why for note in snapshot.notes}
    assert set(notes) >= {"cpuid", "cpuinfo", "kernel release", "cmdline", "kernel config"}
    assert notes["kernel log"] == "/dev/kmsg may not be read; run as root"
    assert all(notes.values())


def test_an_msr_driver_that_is_not_loaded_is_noted(tree: Path, rome_device: dev_cpu.ReadAt) -> None:
    (tree / "dev/cpu/1/msr").unlink()
    notes = [
        note for note in collect(tree, read_at=rome_device).notes if note.what == "msr of CPU 1"
    ]
    assert len(notes) == 1
    assert notes[0].why.endswith("modprobe msr, and run as root")


def test_a_tree_of_two_machines_is_refused(tree: Path, rome_device: dev_cpu.ReadAt) -> None:
    write(tree, "proc/cpuinfo", "vendor_id: GenuineIntel\ncpu family: 6\nmodel: 1\nflags: fpu\n")
    with pytest.raises(EvidenceError, match=r"cpuinfo\.vendor is 'GenuineIntel'"):
        collect(tree, read_at=rome_device)


def test_an_msr_that_the_cpu_does_not_have_is_a_fault_not_unknown(tmp_path: Path) -> None:
    # /proc/self/mem fails with EIO at an unmapped address, as /dev/cpu/N/msr does at a
    # register that does not exist.
    (tmp_path / "dev/cpu/0").mkdir(parents=True)
    (tmp_path / "dev/cpu/0/msr").symlink_to("/proc/self/mem")
    readings = dev_cpu.read_msrs(tmp_path, 0, (0x87, 0x982))
    assert readings.values == {}
    assert readings.faults == {0x87, 0x982}


def test_a_cpuid_device_that_answers_short_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "dev/cpu/0/cpuid", "short")
    with pytest.raises(EvidenceError, match=r"cpuid\+0x0: gave 5 of 16 bytes"):
        dev_cpu.read_cpu(tmp_path, 0)


class TestThisHost:
    def test_the_snapshot_of_this_host_can_be_written_and_read(self) -> None:
        snapshot = collect()
        assert parse(snapshot_text(snapshot), "this host") == snapshot
        assert snapshot.kernel.release == os.uname().release
        assert snapshot.host == os.uname().nodename

    def test_cpuid_executed_here_agrees_with_proc_cpuinfo(self) -> None:
        tables = read_allowed_cpus()
        assert set(tables) == os.sched_getaffinity(0)
        first = tables[min(tables)]
        cpuinfo = collect().cpuinfo
        assert cpuinfo is not None
        assert first.vendor == cpuinfo.vendor
        assert first.family_model_stepping == (cpuinfo.family, cpuinfo.model, cpuinfo.stepping)

    def test_the_affinity_of_the_thread_is_put_back(self) -> None:
        before = os.sched_getaffinity(0)
        read_allowed_cpus()
        assert os.sched_getaffinity(0) == before


def test_collecting_needs_only_the_standard_library() -> None:
    code = (
        "import sys, staleline.evidence.live, staleline.evidence.snapshot_json\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded - set(sys.stdlib_module_names) - {'__main__'}))"
    )
    source = Path(staleline.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "['staleline']\n"


class TestKernelLog:
    def log(self, tmp_path: Path, text: str) -> kernel_log.KernelLog:
        (tmp_path / "kmsg").write_text(text)
        log = kernel_log.read_kernel_log(tmp_path / "kmsg")
        assert log is not None
        return log

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
    def test_sme_active(self, message: str, active: bool, tmp_path: Path) -> None:
        assert kernel_log.sme_active(self.log(tmp_path, KMSG.format(message=message))) is active

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
    def test_tdx_module(self, message: str, state: str, tmp_path: Path) -> None:
        assert kernel_log.tdx_module(self.log(tmp_path, KMSG.format(message=message))) == state

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
        self, message: str, run: bool | None, tmp_path: Path
    ) -> None:
        assert kernel_log.sev_guests_run(self.log(tmp_path, KMSG.format(message=message))) is run

    def test_silence_of_a_log_whose_beginning_is_gone_means_nothing(self, tmp_path: Path) -> None:
        log = self.log(tmp_path, "6,9041,1,-;usb 1-1: new device\n")
        assert not log.complete
        assert kernel_log.sme_active(log) is None
        assert kernel_log.tdx_module(log) is None
        assert kernel_log.sev_guests_run(log) is None


class TestHostFiles:
    @pytest.mark.parametrize(
        ("text", "cpus"),
        [("", ()), ("0", (0,)), ("0-3,8", (0, 1, 2, 3, 8)), ("0-1,4-5\n", (0, 1, 4, 5))],
    )
    def test_cpu_lists(self, text: str, cpus: tuple[int, ...]) -> None:
        assert host_files.cpu_list(text) == cpus

    @pytest.mark.parametrize("text", ["3-1", "a", "0-99999999", "1,-2", "0-999999"])
    def test_what_is_no_cpu_list(self, text: str) -> None:
        with pytest.raises(EvidenceError, match="is not a list of CPUs"):
            host_files.cpu_list(text)

    def test_the_configuration_may_come_from_the_running_kernel(self, tmp_path: Path) -> None:
        (tmp_path / "proc").mkdir()
        config = b"CONFIG_AMD_MEM_ENCRYPT=y\nCONFIG_KEXEC=y\n"
        (tmp_path / "proc/config.gz").write_bytes(gzip.compress(config, mtime=0))
        options = host_files.kernel_config(tmp_path, RELEASE)
        assert options is not None
        assert options["CONFIG_KEXEC"] == "y"
        assert options["CONFIG_KEXEC_FILE"] == "n"

    def test_no_configuration_is_none_not_empty(self, tmp_path: Path) -> None:
        assert host_files.kernel_config(tmp_path, RELEASE) is None

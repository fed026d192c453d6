# SPDX-License-Identifier: GPL-2.0-or-later
"""Collecting from a host: this one, and file trees laid out as a host's."""

from __future__ import annotations

import errno
import gzip
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from staleline.errors import ContradictionError
from staleline.evidence import kernel_log, staleline_collect
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.live import collect, collector_source
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import (
    CacheEvidence,
    CpuEvidence,
    KernelEvidence,
    LogEvidence,
    Snapshot,
    StateEvidence,
)
from staleline.evidence.staleline_collect import HostTree, ReadAt

DATA = Path(__file__).parents[1] / "data" / "cpuid"
RELEASE = "6.12.107+deb13-amd64"
KMSG = (
    "6,0,0,-;Linux version 6.12.107+deb13-amd64\n"
    "6,1,10,-;Command line: mem_encrypt=on\n"
    " SUBSYSTEM=pci;not a message\n"
    "6,2,20,-;{message}\n"
)
SME_ACTIVE = "Memory Encryption Features active: AMD SME"
CPUS = 384
BUILD_ID = "48dc540c8b76393804ca8088dbfa7d42911a9444"


def device_of(cpus: tuple[CpuEvidence, ...], msr: dict[int, int]) -> ReadAt:
    """Answers as /dev/cpu/N/cpuid (16 bytes) and /dev/cpu/N/msr (8 bytes) do."""

    def read_at(device: int, size: int, offset: int) -> bytes:
        if size == 8:
            if offset not in msr:
                raise OSError(errno.EIO, "Input/output error")
            return struct.pack("<Q", msr[offset])
        number = int(Path(os.readlink(f"/proc/self/fd/{device}")).parent.name)
        cpuid = cpus[number % len(cpus)].cpuid
        registers = cpuid.read(offset & 0xFFFFFFFF, offset >> 32) or (0, 0, 0, 0)
        return struct.pack("<4I", *registers)

    return read_at


def write(root: Path, path: str, text: str | bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(text.encode() if isinstance(text, str) else text)


def write_caches(root: Path, cpu: int, core: str, complex_: str) -> None:
    for index, (level, kind, size, shared) in enumerate(
        [
            (1, "Data", "32K", core),
            (1, "Instruction", "32K", core),
            (2, "Unified", "512K", core),
            (3, "Unified", "16384K", complex_),
        ]
    ):
        at = f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
        for name, text in {
            "level": str(level),
            "type": kind,
            "size": size,
            "shared_cpu_list": shared,
        }.items():
            write(root, f"{at}/{name}", text + "\n")


def gnu_build_id(description: bytes) -> bytes:
    """ELF notes of a kernel: one of Xen, then the build ID."""
    xen = struct.pack("<3I", 4, 6, 6) + b"Xen\0" + b"linux\0\0\0"
    return xen + struct.pack("<3I", 4, len(description), 3) + b"GNU\0" + description


@pytest.fixture(scope="module")
def rome() -> Snapshot:
    return read_snapshot(DATA / "libcpuid/amd-epyc-7742-64-core-processor-dual.test")


@pytest.fixture
def rome_device(rome: Snapshot) -> ReadAt:
    return device_of(rome.cpus, {0xC0010010: 0xF40000})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The file tree of a Rome server with SME on and one CPU offline."""
    files: dict[str, str | bytes] = {
        **{f"dev/cpu/{device}": "" for device in ("0/cpuid", "0/msr", "1/cpuid", "1/msr")},
        "dev/kmsg": KMSG.format(message=SME_ACTIVE),
        "proc/sys/kernel/osrelease": RELEASE + "\n",
        "proc/sys/kernel/hostname": "node17\n",
        "proc/cmdline": "BOOT_IMAGE=/vmlinuz mem_encrypt=on\n",
        "sys/devices/system/cpu/present": "0-2\n",
        "sys/devices/system/cpu/online": "0-1\n",
        "sys/kernel/kexec_loaded": "1\n",
        "sys/kernel/kexec_crash_loaded": "0\n",
        "sys/kernel/kexec_crash_size": "8589934592\n",
        "sys/kernel/reboot/force": "0\n",
        "sys/kernel/notes": gnu_build_id(bytes.fromhex(BUILD_ID)),
        "sys/module/kvm_amd/parameters/sev": "Y\n",
        "sys/module/kvm_amd/parameters/npt": "Y\n",
        "sys/bus/pci/drivers/ccp/0000:22:00.1/tsme_status": "0\n",
        "sys/fs/cgroup/misc.peak": "sev 0\nsev_es 0\n",
        f"boot/config-{RELEASE}": "CONFIG_AMD_MEM_ENCRYPT=y\n# CONFIG_INTEL_TDX_HOST is not set\n",
        "proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\n"
        "model\t\t: 49\nstepping\t: 0\nflags\t\t: fpu sme sev\nbugs\t\t: spectre_v1\n",
    }
    for path, content in files.items():
        write(tmp_path, path, content)
    for cpu in (0, 1):
        write_caches(tmp_path, cpu, core=str(cpu), complex_="0-1")
    return tmp_path


def test_a_tree_gives_what_it_holds(tree: Path, rome: Snapshot, rome_device: ReadAt) -> None:
    snapshot = collect(tree, read_at=rome_device)
    assert [cpu.number for cpu in snapshot.cpus] == [0, 1]
    for leaf in (0, 1, 7, 0x80000000, 0x80000008, 0x8000001F):
        assert snapshot.cpus[1].cpuid.recorded(leaf) == rome.cpus[0].cpuid.recorded(leaf)
    caches = [snapshot.cpus[0].cpuid.recorded(0x8000001D, subleaf) for subleaf in range(4)]
    assert caches == [rome.cpus[0].cpuid.recorded(0x8000001D, subleaf) for subleaf in range(4)]
    assert snapshot.cpus[1].msr == {0xC0010010: 0xF40000}
    assert 0xC0010131 in snapshot.cpus[1].msr_faults
    assert snapshot.host == "node17"
    assert snapshot.kernel.release == RELEASE
    assert snapshot.kernel.build_id == BUILD_ID
    assert snapshot.kernel.cmdline == "BOOT_IMAGE=/vmlinuz mem_encrypt=on"
    assert snapshot.kernel.config is not None
    assert snapshot.kernel.config["CONFIG_AMD_MEM_ENCRYPT"] == "y"
    assert snapshot.kernel.config["CONFIG_INTEL_TDX_HOST"] == "n"
    assert snapshot.cpuinfo is not None
    assert "sme" in snapshot.cpuinfo.flags
    assert snapshot.cpuinfo.bugs == {"spectre_v1"}
    assert snapshot.modules == {"kvm_amd": {"sev": "Y"}}
    assert snapshot.log == LogEvidence((SME_ACTIVE,), complete=True)
    assert snapshot.caches == (
        CacheEvidence(1, "Data", 32 << 10, ("0", "1")),
        CacheEvidence(1, "Instruction", 32 << 10, ("0", "1")),
        CacheEvidence(2, "Unified", 512 << 10, ("0", "1")),
        CacheEvidence(3, "Unified", 16 << 20, ("0-1",)),
    )
    assert snapshot.state == StateEvidence(
        sme_active=True,
        tdx_module="not-initialized",
        sev_guests_run=False,
        offline_cpus=(2,),
        kexec_loaded=1,
        kexec_crash_loaded=0,
        kexec_crash_size=8 << 30,
        reboot_force=False,
        tsme=False,
        guest_ids_peak={"sev": 0, "sev_es": 0},
    )
    assert snapshot.notes == ()


def test_what_is_missing_is_noted_with_the_remedy(tmp_path: Path) -> None:
    snapshot = collect(tmp_path)
    assert snapshot.cpus == ()
    assert snapshot.kernel == KernelEvidence()
    assert snapshot.state == StateEvidence()
    notes = {note.what: note.why for note in snapshot.notes}
    assert set(notes) >= {
        "cpuid",
        "cpuinfo",
        "kernel release",
        "cmdline",
        "kernel config",
        "caches",
    }
    assert notes["kernel log"] == "/dev/kmsg may not be read; run as root"
    assert all(notes.values())


def test_cpus_that_lack_the_same_thing_share_a_note(tree: Path, rome_device: ReadAt) -> None:
    for cpu in (0, 1):
        (tree / f"dev/cpu/{cpu}/msr").unlink()
    (note,) = collect(tree, read_at=rome_device).notes
    assert note.what == "msr of CPUs 0-1"
    assert note.why.endswith("No such file or directory; modprobe msr, and run as root")


def test_a_tree_of_two_machines_is_refused(tree: Path, rome_device: ReadAt) -> None:
    write(tree, "proc/cpuinfo", "vendor_id: GenuineIntel\ncpu family: 6\nmodel: 1\nflags: fpu\n")
    with pytest.raises(ContradictionError, match=r"cpuinfo\.vendor is 'GenuineIntel'"):
        collect(tree, read_at=rome_device)


def test_a_link_that_leads_out_of_a_tree_is_not_followed(tree: Path, rome_device: ReadAt) -> None:
    (tree / "proc/cmdline").unlink()
    (tree / "proc/cmdline").symlink_to("/proc/cmdline")
    snapshot = collect(tree, read_at=rome_device)
    assert snapshot.kernel.cmdline is None
    assert "cmdline" in {note.what for note in snapshot.notes}


def test_a_pipe_in_a_tree_does_not_block(tree: Path, rome_device: ReadAt) -> None:
    (tree / "proc/cmdline").unlink()
    os.mkfifo(tree / "proc/cmdline")
    assert collect(tree, read_at=rome_device).kernel.cmdline == ""


def test_an_msr_that_the_cpu_does_not_have_is_a_fault_not_unknown() -> None:
    # /proc/self/mem fails with EIO at an unmapped address, as /dev/cpu/N/msr does at a
    # register that does not exist.
    with open("/proc/self/mem", "rb", buffering=0) as device:
        assert staleline_collect.read_msrs(device.fileno(), (0x87, 0x982)) == ({}, [0x87, 0x982])


def test_a_cpuid_device_that_answers_short_gives_no_registers(tree: Path) -> None:
    write(tree, "dev/cpu/1/cpuid", "short")
    snapshot = collect(tree)
    assert snapshot.cpus == ()
    (note,) = (note for note in snapshot.notes if note.what == "cpuid of CPUs 1")
    assert note.why == "gave 5 of 16 bytes; modprobe cpuid, and run as root"


@pytest.fixture(scope="module")
def turin() -> Snapshot:
    return read_snapshot(DATA / "full/amd-epyc-9965-192-core-processor-dual.test.xz")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    half = CPUS // 2
    for cpu in range(CPUS):
        write(root, f"dev/cpu/{cpu}/cpuid", "")
        write(root, f"dev/cpu/{cpu}/msr", "")
        core = cpu % half
        first = core // 8 * 8
        write_caches(
            root,
            cpu,
            core=f"{core},{core + half}",
            complex_=f"{first}-{first + 7},{first + half}-{first + half + 7}",
        )
    for name in ("present", "online"):
        write(root, f"sys/devices/system/cpu/{name}", f"0-{CPUS - 1}\n")
    return root


@pytest.fixture(scope="module")
def device(turin: Snapshot) -> ReadAt:
    return device_of(turin.cpus, dict.fromkeys(staleline_collect.MSRS["AuthenticAMD"], 0xF40000))


class TestManyCpus:
    """The CPUs of a real machine with 384, as /dev/cpu would show them."""

    def test_they_are_collected_in_under_five_seconds_and_a_megabyte(
        self, many: Path, device: ReadAt, turin: Snapshot
    ) -> None:
        started = time.process_time()
        text = staleline_collect.document_text(
            staleline_collect.collect(HostTree(str(many)), device)
        )
        assert time.process_time() - started < 5
        assert len(text) < 1 << 20
        machine = parse_snapshot(text, "many")
        assert len(turin.cpus) == len(machine.cpus) == CPUS
        for cpu, original in zip(machine.cpus, turin.cpus, strict=True):
            for (leaf, subleaf), registers in cpu.cpuid.leaves.items():
                assert registers == (original.cpuid.read(leaf, subleaf) or (0, 0, 0, 0))

    def test_each_cache_is_listed_once(self, many: Path, device: ReadAt) -> None:
        caches = collect(many, read_at=device).caches
        assert [(cache.level, cache.type, len(cache.cpus)) for cache in caches] == [
            (1, "Data", 192),
            (1, "Instruction", 192),
            (2, "Unified", 192),
            (3, "Unified", 24),
        ]
        assert caches[3].cpus[0] == "0-7,192-199"


class TestThisHost:
    def test_cpuid_executed_here_agrees_with_proc_cpuinfo(self) -> None:
        leaves = staleline_collect.read_cpuid(staleline_collect.user_cpuid())
        snapshot = collect()
        assert snapshot.cpuinfo is not None
        shown = CpuidTable(leaves)
        assert shown.vendor == snapshot.cpuinfo.vendor
        assert shown.family_model_stepping == (
            snapshot.cpuinfo.family,
            snapshot.cpuinfo.model,
            snapshot.cpuinfo.stepping,
        )

    def test_every_cpu_this_process_may_run_on_is_there(self) -> None:
        numbers = {cpu.number for cpu in collect().cpus}
        assert numbers >= os.sched_getaffinity(0)

    def test_cpuid_is_the_same_by_device_and_executed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        normally = collect().cpus

        def no_device(self: HostTree, path: str) -> int:
            raise PermissionError(errno.EACCES, "Permission denied", f"/{path}")

        monkeypatch.setattr(HostTree, "open", no_device)
        executed = staleline_collect.collect()
        assert executed["kernel"]["release"] is None
        tables = parse_snapshot(staleline_collect.document_text(executed), "executed").cpus
        numbers = os.sched_getaffinity(0)
        assert {cpu.number for cpu in tables} == numbers
        vendors = {cpu.cpuid.vendor for cpu in (*tables, *normally)}
        assert len(vendors) == 1

    def test_the_affinity_of_the_thread_is_put_back(self) -> None:
        before = os.sched_getaffinity(0)
        collect()
        assert os.sched_getaffinity(0) == before


class TestTheFile:
    """The collector alone, given to a Python on its standard input."""

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-", *arguments],
            input=collector_source(),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""
        return done.stdout

    def test_needs_nothing_but_the_standard_library(self) -> None:
        snapshot = parse_snapshot(self.run(), "this host")
        assert snapshot.kernel.release == os.uname().release
        assert snapshot.host == os.uname().nodename

    def test_is_of_python_3_6(self) -> None:
        vermin = Path(sys.executable).with_name("vermin")
        done = subprocess.run(
            [vermin, "--target=3.6-", "--eval-annotations", staleline_collect.__file__],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "Minimum required versions: 3.6" in done.stdout

    def test_takes_under_two_seconds_of_this_hosts_time(self) -> None:
        started = os.times()
        self.run()
        ended = os.times()
        used = (ended.children_user + ended.children_system) - (
            started.children_user + started.children_system
        )
        assert used < 2

    def test_writes_what_live_reads(self) -> None:
        alone = parse_snapshot(self.run(), "this host")
        within = collect()
        assert alone.cpus == within.cpus
        assert alone.kernel == within.kernel
        assert alone.state == within.state
        assert alone.notes == within.notes

    def test_redacts_the_host_name(self) -> None:
        document = json.loads(self.run("--redact"))
        assert document["host"] is None
        assert document["notes"][-1]["what"] == "host"


class TestRedaction:
    def redacted(self, host: str, cmdline: str, *lines: str) -> tuple[str, list[str]]:
        document = staleline_collect.redacted(
            {
                "host": host,
                "kernel": {"cmdline": cmdline},
                "log": {"complete": True, "lines": list(lines)},
                "notes": [],
            }
        )
        assert document["host"] is None
        return document["kernel"]["cmdline"], document["log"]["lines"]

    def test_the_name_goes_from_command_line_and_log_with_and_without_domain(self) -> None:
        cmdline, lines = self.redacted(
            "node17.example.org",
            "root=UUID=1 ip=10.0.0.1::10.0.0.2:24:node17:eth0 quiet node17 mem_encrypt=on",
            "kexec: loaded by node17.example.org",
            "kexec: Node17-bmc and xnode17 are others",
        )
        assert cmdline == "root=REDACTED ip=REDACTED quiet REDACTED mem_encrypt=on"
        assert lines == [
            "kexec: loaded by REDACTED",
            "kexec: Node17-bmc and xnode17 are others",
        ]

    @pytest.mark.parametrize("host", ["sme", "amd", "Features", "on", "force", "mem_encrypt"])
    def test_a_name_that_is_a_word_of_the_evidence_changes_no_evidence(self, host: str) -> None:
        assert self.redacted(host, "mem_encrypt=on reboot=force", SME_ACTIVE) == (
            "mem_encrypt=on reboot=force",
            [SME_ACTIVE],
        )

    def test_what_is_no_parameter_is_replaced(self) -> None:
        assert self.redacted("h", "-- --addr 10.0.0.1:80 ro", "")[0] == (
            "REDACTED REDACTED REDACTED ro"
        )


class TestSharedEntries:
    def test_a_cpu_that_lacks_a_leaf_of_another_is_written_whole(self) -> None:
        first = {"cpu": 0, "cpuid": {"0x0:0": ["0x1"], "0x1:0": ["0x2"]}}
        second = {"cpu": 1, "cpuid": {"0x0:0": ["0x1"]}}
        assert staleline_collect.shared_entries([first, second]) == [first, second]

    def test_two_kinds_of_cpu_are_each_written_once(self) -> None:
        big = {"cpuid": {f"{leaf}:0": ["0x1"] for leaf in range(8)}, "msr": {"0x10": "0x1"}}
        little = {"cpuid": {f"{leaf}:0": ["0x2"] for leaf in range(8)}, "msr": {"0x10": "0x1"}}
        shared = staleline_collect.shared_entries([big, little, big, little])
        assert shared[:2] == [big, little]
        assert shared[2:] == [{"like": 0, "cpuid": {}}, {"like": 1, "cpuid": {}}]


class TestKernelLog:
    def log(self, message: str) -> LogEvidence:
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
    def test_sme_active(self, message: str, active: bool) -> None:
        assert kernel_log.sme_active(self.log(message)) is active

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
    def test_tdx_module(self, message: str, state: str) -> None:
        assert kernel_log.tdx_module(self.log(message)) == state

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
        self, message: str, run: bool | None
    ) -> None:
        assert kernel_log.sev_guests_run(self.log(message)) is run

    def test_silence_of_a_log_whose_beginning_is_gone_means_nothing(self) -> None:
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
        self, peak: dict[str, int] | None, run: bool | None
    ) -> None:
        machine = Snapshot((), state=StateEvidence(guest_ids_peak=peak))
        assert kernel_log.with_state(machine).state.sev_guests_run is run


class TestHostFiles:
    @pytest.mark.parametrize(
        ("text", "cpus"),
        [("", []), ("0", [0]), ("0-3,8", [0, 1, 2, 3, 8]), ("0-1,4-5\n", [0, 1, 4, 5])],
    )
    def test_cpu_lists(self, text: str, cpus: list[int]) -> None:
        assert staleline_collect.cpu_list(text) == cpus
        assert staleline_collect.cpu_list_text(cpus) == text.strip()

    @pytest.mark.parametrize("text", ["3-1", "a", "0-99999999", "1,-2", "0-999999"])
    def test_what_is_no_cpu_list(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not a list of CPUs"):
            staleline_collect.cpu_list(text)

    @pytest.mark.parametrize(
        ("path", "pack"),
        [
            ("proc/config.gz", lambda text: gzip.compress(text, mtime=0)),
            (f"boot/config-{RELEASE}", bytes),
            (f"lib/modules/{RELEASE}/config", bytes),
        ],
    )
    def test_the_configuration_may_come_from_several_places(
        self, path: str, pack: Callable[[bytes], bytes], tmp_path: Path
    ) -> None:
        write(tmp_path, "proc/sys/kernel/osrelease", RELEASE)
        write(tmp_path, path, pack(b"CONFIG_AMD_MEM_ENCRYPT=y\nCONFIG_KEXEC=y\n"))
        options = collect(tmp_path).kernel.config
        assert options is not None
        assert options["CONFIG_KEXEC"] == "y"
        assert options["CONFIG_KEXEC_FILE"] == "n"

    def test_no_configuration_is_none_not_empty(self, tmp_path: Path) -> None:
        write(tmp_path, "proc/sys/kernel/osrelease", "../../etc/passwd")
        assert collect(tmp_path).kernel.config is None

# SPDX-License-Identifier: GPL-2.0-or-later
"""Collecting from a host: this one, and file trees laid out as a host's."""

from __future__ import annotations

import errno
import gzip
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from staleline.evidence import staleline_collect
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.live import collect
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
from tests.evidence.writers import KMSG, SME_ACTIVE

DATA = Path(__file__).parents[1] / "data" / "cpuid"
RELEASE = "6.12.107+deb13-amd64"
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


def zero_page(*, loader: int, xloadflags: int, efi: bytes = b"EL64") -> bytes:
    """Where what is of concern stands: Documentation/arch/x86/zero-page.rst and boot.rst, 6.12."""
    page = bytearray(4096)
    page[0x1C0:0x1C4] = efi
    page[0x202:0x206] = b"HdrS"
    page[0x210] = loader
    page[0x236:0x238] = xloadflags.to_bytes(2, "little")
    return bytes(page)


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
        "proc/bootconfig": 'kernel.mem_encrypt = "on"\nftrace.events = "a", \'"b"\'\n',
        "sys/kernel/boot_params/data": zero_page(loader=0x21, xloadflags=0x80),
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
    assert snapshot.kernel.bootconfig == ("kernel.mem_encrypt", "ftrace.events", "ftrace.events")
    assert (snapshot.kernel.booted_by, snapshot.kernel.xloadflags) == ("efi", 0x80)
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
        online_cpus=2,
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


@pytest.mark.parametrize(
    ("loader", "efi", "booted_by"),
    [
        # linux 7.3.4 drivers/firmware/efi/libstub/x86-stub.c:534 efi_pe_entry()
        (0x21, b"EL64", "efi"),
        # linux 7.3.4 arch/x86/kernel/kexec-bzimage64.c:649; it hands EFI's tables on
        (0xD0, b"EL64", "kexec"),
        # GRUB, which may or may not have entered the EFI stub
        (0x72, b"EL64", None),
        (0x72, bytes(4), "direct"),
    ],
)
def test_the_way_of_booting(
    tree: Path, rome_device: ReadAt, loader: int, efi: bytes, booted_by: str | None
) -> None:
    page = zero_page(loader=loader, xloadflags=0, efi=efi)
    (tree / "sys/kernel/boot_params/data").write_bytes(page)
    kernel = collect(tree, read_at=rome_device).kernel
    assert (kernel.booted_by, kernel.xloadflags) == (booted_by, 0)


def test_the_loaders_command_line_is_what_is_printed_before_others_are_added(
    tree: Path, rome_device: ReadAt
) -> None:
    # linux 7.3.4 arch/x86/kernel/setup.c:909; /proc/cmdline begins with BOOT_IMAGE= here.
    assert collect(tree, read_at=rome_device).kernel.loader_cmdline == "mem_encrypt=on"
    # A log that lacks its beginning may hold such a line of anybody's.
    (tree / "dev/kmsg").write_text("6,7,1,-;Command line: quiet\n")
    assert collect(tree, read_at=rome_device).kernel.loader_cmdline is None


def test_a_bootconfig_that_cannot_be_read_is_noted(tree: Path, rome_device: ReadAt) -> None:
    (tree / "proc/bootconfig").write_text("no table\n")
    snapshot = collect(tree, read_at=rome_device)
    assert snapshot.kernel.bootconfig is None
    assert [note.what for note in snapshot.notes] == ["bootconfig"]


def test_of_two_that_differ_neither_is_taken(tree: Path, rome_device: ReadAt) -> None:
    """The first configuration was, and of TSME that it is on."""
    other = "CONFIG_AMD_MEM_ENCRYPT=n\n# CONFIG_INTEL_TDX_HOST is not set\nCONFIG_KEXEC=y\n"
    write(tree, f"lib/modules/{RELEASE}/config", other)
    write(tree, "sys/bus/pci/drivers/ccp/0000:a2:00.1/tsme_status", "1\n")
    snapshot = collect(tree, read_at=rome_device)
    assert snapshot.kernel.config == {"CONFIG_INTEL_TDX_HOST": "n", "CONFIG_KEXEC": "y"}
    assert snapshot.state.tsme is None
    assert [note.what for note in snapshot.notes] == ["kernel config", "tsme"]


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
    snapshot = collect(tree, read_at=rome_device)
    # Nothing was read, as of a file of /proc that was copied by its size, which is 0.
    assert snapshot.kernel.cmdline is None
    assert "cmdline" in {note.what for note in snapshot.notes}


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


class TestHostFiles:
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
        config = b"CONFIG_AMD_MEM_ENCRYPT=y\nCONFIG_KEXEC=y\n# CONFIG_KEXEC_FILE is not set\n"
        write(tmp_path, path, pack(config))
        options = collect(tmp_path).kernel.config
        assert options is not None
        assert options["CONFIG_KEXEC"] == "y"
        assert options["CONFIG_KEXEC_FILE"] == "n"

    def test_no_configuration_is_none_not_empty(self, tmp_path: Path) -> None:
        write(tmp_path, "proc/sys/kernel/osrelease", "../../etc/passwd")
        assert collect(tmp_path).kernel.config is None

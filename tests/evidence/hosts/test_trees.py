# SPDX-License-Identifier: GPL-2.0-or-later
"""Directories and archives of a host's files: what is read of them, and what is refused."""

from __future__ import annotations

import io
import os
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence import source
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import read_snapshot
from staleline.evidence.hosts import archive
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.hosts.trees import layout_of
from staleline.evidence.snapshot import CacheEvidence, CpuinfoEvidence, LogEvidence, Snapshot
from staleline.unpacking import Bounds
from tests.evidence.writers import (
    COMPRESS,
    as_cpuid_tool,
    as_cpuinfo,
    as_lscpu,
    as_tar,
    piped,
)

DATA = Path(__file__).parents[2] / "data" / "cpuid"
ROME_CPUID = read_snapshot(DATA / "libcpuid/amd-epyc-7742-64-core-processor-dual.test")
ROME = CpuinfoEvidence("AuthenticAMD", 23, 49, 0, frozenset({"fpu", "sme", "sev"}))
RELEASE = "6.12.107+deb13-amd64"
DMESG = (
    f"[    0.000000] Linux version {RELEASE} (x) #1 SMP\n"
    "[    0.100000] Memory Encryption Features active: AMD SME\n"
)

#: As util-linux keeps its tests' trees for lscpu --sysroot.
SYSROOT = {
    "proc/cpuinfo": as_cpuinfo(ROME, 2),
    "sys/devices/system/cpu/present": "0-2\n",
    "sys/devices/system/cpu/online": "0-1\n",
    **{
        f"sys/devices/system/cpu/cpu{cpu}/cache/index3/{name}": f"{text}\n"
        for cpu in (0, 1)
        for name, text in {
            "level": "3",
            "type": "Unified",
            "size": "16384K",
            "shared_cpu_list": "0-1",
        }.items()
    },
}
#: As sosreport 4 keeps them (plugins kernel, processor).
SOSREPORT = {
    **SYSROOT,
    "proc/cmdline": "BOOT_IMAGE=/vmlinuz mem_encrypt=on\n",
    f"boot/config-{RELEASE}": "CONFIG_AMD_MEM_ENCRYPT=y\n",
    "sys/kernel/kexec_crash_loaded": "1\n",
    "sys/module/kvm_amd/parameters/sev": "N\n",
    "sos_commands/kernel/uname_-a": f"Linux node17 {RELEASE} #1 SMP x86_64 GNU/Linux\n",
    "sos_commands/kernel/dmesg": DMESG,
    "sos_commands/processor/lscpu": as_lscpu(ROME, 2, "2"),
    "sos_commands/processor/cpuid_-r": as_cpuid_tool(ROME_CPUID),
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
}


def laid_out(files: dict[str, str], root: Path) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def packed(files: dict[str, str], path: Path, top: str = "top/") -> Path:
    path.write_bytes(as_tar({f"{top}{name}": text for name, text in files.items()}))
    return path


def message_of(path: Path) -> str:
    with pytest.raises(EvidenceError) as caught:
        read_snapshot(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(params=["directory", "archive", "archive without a top"])
def sysroot(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return made(request.param, SYSROOT, tmp_path)


@pytest.fixture(params=["directory", "archive", "archive without a top"])
def sosreport(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return made(request.param, SOSREPORT, tmp_path)


def made(kind: str, files: dict[str, str], directory: Path) -> Path:
    if kind == "directory":
        return laid_out(files, directory)
    return packed(files, directory / "it.tar", "" if kind.endswith("top") else "top/")


def test_a_sysroot_gives_what_lscpu_would_show(sysroot: Path) -> None:
    machine = read_snapshot(sysroot)
    assert machine.cpuinfo == ROME
    assert machine.state.offline_cpus == (2,)
    assert machine.caches == (CacheEvidence(3, "Unified", 16 << 20, ("0-1",)),)
    assert machine.collected is None
    assert "cmdline" in {note.what for note in machine.notes}


def test_a_sosreport_gives_files_and_outputs_of_commands(sosreport: Path) -> None:
    machine = read_snapshot(sosreport)
    assert machine.cpus == ROME_CPUID.cpus
    assert machine.cpuinfo == ROME
    assert machine.host == "node17"
    assert machine.kernel.release == RELEASE
    assert machine.kernel.cmdline == "BOOT_IMAGE=/vmlinuz mem_encrypt=on"
    assert machine.kernel.config is not None
    assert machine.kernel.config["CONFIG_AMD_MEM_ENCRYPT"] == "y"
    assert machine.modules == {"kvm_amd": {"sev": "N"}}
    assert machine.state.sme_active is True
    assert machine.state.kexec_crash_loaded == 1
    noted = {note.what for note in machine.notes}
    assert not noted & {"cpuid of CPUs 0-1", "cpuinfo", "cmdline", "host", "kernel release"}


def test_files_of_two_machines_in_one_tree(tmp_path: Path) -> None:
    mixed = {**SOSREPORT, "sos_commands/kernel/uname_-a": "Linux node17 6.1.9 #1\n"}
    with pytest.raises(ContradictionError, match=r"kernel\.release is .* \(two-kernels"):
        read_snapshot(laid_out(mixed, tmp_path))


#: linux 7.3.4 fs/proc/version.c, init/version-timestamp.c.
VERSION = f"Linux version {RELEASE} (debian-kernel@lists.debian.org) (gcc) #1 SMP Debian 6.12\n"
UNAME = f"Linux node17 {RELEASE} #1 SMP PREEMPT_DYNAMIC Debian x86_64 GNU/Linux\n"


@pytest.mark.parametrize("kind", ["directory", "archive", "archive without a top"])
@pytest.mark.parametrize(
    ("files", "host"),
    [
        ({"proc/version": VERSION}, None),
        ({"sos_commands/kernel/uname_-a": UNAME}, "node17"),
        ({"proc/version": VERSION, "sos_commands/kernel/uname_-a": UNAME}, "node17"),
        ({"proc/sys/kernel/osrelease": f"{RELEASE}\n", "proc/version": VERSION}, None),
        ({"sos_commands/kernel/dmesg": DMESG}, None),
    ],
)
def test_the_release_is_told_by_whatever_file_has_it(
    kind: str, files: dict[str, str], host: str | None, tmp_path: Path
) -> None:
    config = {f"boot/config-{RELEASE}": "CONFIG_AMD_MEM_ENCRYPT=y\n"}
    machine = read_snapshot(made(kind, {**SYSROOT, **config, **files}, tmp_path))
    assert (machine.kernel.release, machine.host) == (RELEASE, host)
    # Its configuration is looked for by it, wherever it was read.
    if "sos_commands/kernel/dmesg" not in files:
        assert machine.kernel.config == {"CONFIG_AMD_MEM_ENCRYPT": "y"}


def test_releases_of_two_kernels_in_one_tree(tmp_path: Path) -> None:
    two = {**SYSROOT, "proc/version": VERSION, "proc/sys/kernel/osrelease": "6.1.9\n"}
    with pytest.raises(ContradictionError, match=r"kernel\.release is .* \(two-kernels"):
        read_snapshot(laid_out(two, tmp_path))


def test_a_version_of_another_system_is_refused_by_name(tmp_path: Path) -> None:
    other = {**SYSROOT, "proc/version": "Cygwin version 3.4\n"}
    assert "proc/version: is not /proc/version of Linux" in message_of(laid_out(other, tmp_path))


def test_the_release_stands_in_a_loose_file_too(tmp_path: Path) -> None:
    files = {"cpuid.txt": as_cpuid_tool(ROME_CPUID), "version": VERSION}
    assert read_snapshot(packed(files, tmp_path / "it.tar")).kernel.release == RELEASE


def test_two_machines_in_one_archive(tmp_path: Path) -> None:
    files = {f"{host}/{name}": text for host in ("a", "b") for name, text in SYSROOT.items()}
    assert "holds several machines: top/a and top/b" in message_of(
        packed(files, tmp_path / "two.tar")
    )


def test_copies_of_trees_further_down_are_no_other_machines() -> None:
    # "a.b" and "a-b" sort between "a" and "a/b" as text, and are in neither.
    inside = {f"a{below}/proc/cmdline": b"quiet\n" for below in ("", "/b", "/b/c", "/sos/host")}
    tree = layout_of(inside, "top")
    assert tree is not None
    assert tree.read("proc/cmdline") == b"quiet\n"
    for beside in ("a.b", "a-b", "a0"):
        with pytest.raises(EvidenceError, match=f"holds several machines: a and {beside};"):
            layout_of({**inside, f"{beside}/proc/cmdline": b"quiet\n"}, "top")


def test_an_archive_of_very_many_trees_is_refused_at_once() -> None:
    # Each against each, these took minutes of CPU time.
    files = {f"host/{number}/proc/cpuinfo": b"" for number in range(30_000)}
    before = time.process_time()
    with pytest.raises(EvidenceError, match="holds several machines"):
        layout_of(files, "hosts.tar")
    assert time.process_time() - before < 10


def test_dumps_of_two_machines_in_one_archive(tmp_path: Path) -> None:
    other = read_snapshot(DATA / "libcpuid/amd-epyc-7763-64-core-processor-dual.test")
    files = {"a.txt": as_cpuid_tool(ROME_CPUID), "b.txt": as_cpuid_tool(other)}
    assert "(two-cpu-models)" in message_of(packed(files, tmp_path / "two.tar"))


def hwloc_file(signature: str) -> str:
    """Of one CPU, as hwloc-gather-cpuid writes it."""
    return (
        "# mask e[abcd]x => e[abcd]x\n"
        "1 0 0 0 0 => 10 68747541 444d4163 69746e65\n"
        f"1 1 0 0 0 => {signature} 0 0 0\n"
    )


@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_what_lies_beside_a_hosts_directories_counts_however_it_is_given(
    kind: str, tmp_path: Path
) -> None:
    """Of a directory with hwloc's files nothing else was read, and of none what lies beside."""
    files = {**SYSROOT, "proc/cmdline": "ro mem_encrypt=off\n", "dmesg.txt": DMESG}
    for name in "abc":
        (tmp_path / name).mkdir()
    machine = read_snapshot(made(kind, {**files, "pu0": hwloc_file("830f10")}, tmp_path / "a"))
    assert machine.cpuinfo == ROME
    assert machine.kernel.cmdline == "ro mem_encrypt=off"
    assert machine.kernel.release == RELEASE
    assert machine.cpus[0].cpuid.family_model_stepping == (23, 49, 0)
    alone = read_snapshot(made(kind, {"pu0": hwloc_file("830f10"), "log": DMESG}, tmp_path / "b"))
    assert (alone.cpuinfo, alone.kernel.release) == (None, RELEASE)
    with pytest.raises(ContradictionError, match="two-cpu-models"):
        read_snapshot(made(kind, {**files, "pu0": hwloc_file("a00f11")}, tmp_path / "c"))


def test_a_directory_or_archive_without_evidence(tmp_path: Path) -> None:
    assert "is a directory that is not laid out as a host" in message_of(tmp_path)
    path = packed({"README": "nothing here\n"}, tmp_path / "no.tar")
    assert "is an archive without evidence" in message_of(path)


class TestDirectory:
    def test_a_link_that_leads_out_is_not_followed(self, tmp_path: Path) -> None:
        root = laid_out(SYSROOT, tmp_path / "root")
        (tmp_path / "cmdline").write_text("mem_encrypt=on\n")
        (root / "proc/cmdline").symlink_to(tmp_path / "cmdline")
        assert read_snapshot(root).kernel.cmdline is None

    def test_a_link_within_is(self, tmp_path: Path) -> None:
        root = laid_out({**SYSROOT, "kept/cmdline": "mem_encrypt=on\n"}, tmp_path)
        (root / "proc/cmdline").symlink_to("../kept/cmdline")
        assert read_snapshot(root).kernel.cmdline == "mem_encrypt=on"


class TestArchive:
    @pytest.mark.parametrize("suffix", COMPRESS)
    def test_through_a_pipe(self, suffix: str) -> None:
        data = COMPRESS[suffix](as_tar({f"top/{name}": text for name, text in SYSROOT.items()}))
        with piped(data) as pipe:
            assert read_snapshot(pipe).cpuinfo == ROME

    @pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESS if suffix])
    def test_cut_short(self, suffix: str, tmp_path: Path) -> None:
        data = COMPRESS[suffix](as_tar({f"n{i}.bin": os.urandom(5000) for i in range(40)}))
        path = tmp_path / "it.tar"
        path.write_bytes(data[: len(data) // 2])
        assert any(word in message_of(path) for word in ("damaged", "cut short"))

    def test_cut_short_uncompressed(self, tmp_path: Path) -> None:
        path = tmp_path / "it.tar"
        path.write_bytes(as_tar(SYSROOT)[:700])
        assert "member proc/cpuinfo is cut short" in message_of(path)

    @pytest.mark.parametrize("slashes", ["/", "//"])
    def test_a_name_from_the_root_is_one_from_the_top(self, slashes: str, tmp_path: Path) -> None:
        # tar -P; nothing is written, so no name can lead anywhere.
        path = tmp_path / "it.tar"
        path.write_bytes(as_tar(SYSROOT))
        relative = read_snapshot(path)
        path.write_bytes(as_tar({f"{slashes}{name}": text for name, text in SYSROOT.items()}))
        assert replace(read_snapshot(path), notes=()) == replace(relative, notes=())
        assert relative.cpuinfo is not None

    @pytest.mark.parametrize("name", ["../evil", "a/../../evil"])
    def test_a_name_that_leads_out(self, name: str, tmp_path: Path) -> None:
        path = packed({name: "x"}, tmp_path / "it.tar", top="")
        assert f"member {name!r} leads out of the archive" in message_of(path)

    def test_links_are_resolved_only_within(self, tmp_path: Path) -> None:
        files = {f"top/{name}": text for name, text in SYSROOT.items()}
        files["top/kept/proc/cmdline"] = "mem_encrypt=on\n"
        path = tmp_path / "it.tar"
        path.write_bytes(as_tar(files, {"top/proc/cmdline": "../kept/proc/cmdline"}))
        assert read_snapshot(path).kernel.cmdline == "mem_encrypt=on"
        path.write_bytes(as_tar(files, {"top/proc/cmdline": "/proc/cmdline"}))
        assert read_snapshot(path).kernel.cmdline is None

    def test_a_link_that_leads_to_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "it.tar"
        path.write_bytes(as_tar(SYSROOT, {"proc/cmdline": "cmdline"}))
        assert read_snapshot(path).kernel.cmdline is None

    def test_devices_are_ignored(self, tmp_path: Path) -> None:
        buffer = io.BytesIO(as_tar(SYSROOT))
        with tarfile.open(fileobj=buffer, mode="a") as tar:
            device = tarfile.TarInfo("proc/cmdline")
            device.type = tarfile.CHRTYPE
            tar.addfile(device)
        (tmp_path / "it.tar").write_bytes(buffer.getvalue())
        assert read_snapshot(tmp_path / "it.tar").kernel.cmdline is None

    def test_what_is_no_evidence_may_be_large(self, tmp_path: Path) -> None:
        files = {**SYSROOT, "var/log/journal": "x" * (5 << 20)}
        assert read_snapshot(packed(files, tmp_path / "it.tar")).cpuinfo == ROME

    def test_evidence_may_not(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "_MEMBER_MAX", 1000)
        path = packed({**SYSROOT, "proc/cmdline": "x" * 1001}, tmp_path / "it.tar")
        assert "member top/proc/cmdline is more than evidence" in message_of(path)

    def test_a_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(source, "_BOUNDS", Bounds(most=1 << 20))
        path = tmp_path / "it.tar.xz"
        path.write_bytes(COMPRESS[".xz"](as_tar({**SYSROOT, "var/zeros": "\0" * (2 << 20)})))
        assert "unpacks to more than" in message_of(path)

    def test_a_snapshot_in_an_archive_is_read_as_by_itself(self, tmp_path: Path) -> None:
        machine = Snapshot(ROME_CPUID.cpus, host="node17", cpuinfo=ROME)
        path = packed({"node17.json": snapshot_text(machine), "README": "x"}, tmp_path / "it.tar")
        assert read_snapshot(path) == machine

    @pytest.mark.parametrize("name", ["proc/cpuinfo", "proc/cmdline", "hostname", "README"])
    def test_without_evidence_is_never_an_empty_machine(self, name: str, tmp_path: Path) -> None:
        assert "evidence" in message_of(packed({name: "\n"}, tmp_path / "it.tar"))

    def test_evidence_that_is_stored_without_its_holes(self, tmp_path: Path) -> None:
        member = tarfile.TarInfo("proc/cpuinfo")
        member.type = tarfile.GNUTYPE_SPARSE
        path = tmp_path / "it.tar"
        path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        assert "member proc/cpuinfo is stored sparse; make the archive without --sparse" in (
            message_of(path)
        )

    def test_names_cost_what_they_cost(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = {f"{i}/proc/cpuinfo": "" for i in range(100)}
        monkeypatch.setattr(archive, "_KEPT_MAX", 50_000)
        assert "is more than evidence of a machine is" in (
            message_of(packed(files, tmp_path / "it.tar", top=""))
        )


def test_an_empty_copy_is_no_list_without_entries(tmp_path: Path) -> None:
    """tar stores as much of a file as its size says, and files of /proc and debugfs have none."""
    lists = ("proc/bootconfig", "sys/kernel/debug/kprobes/list", "sys/fs/cgroup/misc.peak")
    for number, content in enumerate(("", "\n")):
        whole = SYSROOT | dict.fromkeys(lists, content)
        machine = read_snapshot(laid_out(whole, tmp_path / str(number)))
        told = (machine.state.kprobes, machine.state.guest_ids_peak)
        assert told == ((None, None) if not content else ((), {}))
        assert machine.kernel.bootconfig is None


def test_a_copy_of_the_kernels_records_is_not_known_to_be_whole(tmp_path: Path) -> None:
    """It may have been made at boot, or cut: what it lacks may have been said later."""
    records = "6,0,1,-;Linux version 6.12.107 (x) #1\n6,1,2,-;kexec: loaded\n"
    machine = read_snapshot(laid_out({**SYSROOT, "dev/kmsg": records}, tmp_path))
    assert machine.log == LogEvidence(("kexec: loaded",), complete=False)

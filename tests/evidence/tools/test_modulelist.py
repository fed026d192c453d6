# SPDX-License-Identifier: GPL-2.0-or-later
"""Who jumps, and whose code runs, told by a list of modules or sysfs in whatever layout."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.hosts.archive import read_archive
from staleline.evidence.snapshot import Snapshot
from staleline.evidence.source import opened_evidence
from staleline.evidence.staleline_collect import HostTree, Tree, collect
from staleline.evidence.tools.modulelist import listed_modules
from staleline.facts import from_snapshot
from staleline.verdict.machines.possible import possible_machines
from tests.evidence.writers import as_cpuid_tool

DATA = Path(__file__).parents[2] / "data" / "cpuid"
ROME = (DATA / "libcpuid/amd-epyc-7742-64-core-processor-dual.test").read_text()

LSMOD = "Module                  Size  Used by\n{name}              49152  0\nkvm_amd   172032  0\n"
#: linux 7.3.4 kernel/module/procfs.c m_show().
PROC = "kvm_amd 172032 0 - Live 0x0000000000000000\n{name} 49152 0 - Live 0xffffffffc0a45000 (OE)\n"
LINKED = (
    "[  101.500000] Modules linked in: kvm_amd {name}(OE) ccp [last unloaded: nbd]\n"
    "[  101.500001] CPU: 3 PID: 1 Comm: x Tainted: G           OE       6.12.117 #1\n"
)
#: Ways in which people paste or tools print that a module is loaded.
LISTS = {
    "lsmod": LSMOD,
    "lsmod in a mail": "".join(f"> {line}\n" for line in LSMOD.splitlines()),
    "lsmod of a session": f"root@host:~# lsmod\n{LSMOD}root@host:~# \n",
    "lsmod through grep": "$ lsmod | grep {name}\n{name}              49152  0\n",
    "lsmod in a table": "| {name}              49152  0 |\n",
    "lsmod of a supportconfig": f"#==[ Command ]=====#\n# /sbin/lsmod\n{LSMOD}\n",
    "/proc/modules": PROC,
    "cat /proc/modules": f"$ cat /proc/modules\n{PROC}$ \n",
    "a trace": LINKED,
    "a trace without times": "Modules linked in: kvm_amd {name} ccp\n",
    "a trace of several lines": "[    1.0] Modules linked in: kvm_amd ccp\n[    1.0]  {name} nbd\n",
    "systool": 'Module = "{name}"\n\n  Attributes:\n',
    "initstate": "# grep -H . /sys/module/{name}/initstate\n/sys/module/{name}/initstate:live\n",
}
#: What only shows a directory, as a module that is built in has one too.
OF_SYSFS = {
    "ls": "# ls /sys/module\n8250  jailhouse  kvm_amd\nzswap\n# \n",
    "ls -d": "# ls -d /sys/module/jailhouse\n/sys/module/jailhouse\n",
    "find": "# find /sys/module -maxdepth 1\n/sys/module\n/sys/module/jailhouse\n",
    "enabled": "# cat /sys/devices/jailhouse/enabled\n1\n# \n",
    "enabled, by grep": "/sys/devices/jailhouse/enabled:1\n",
    # jailhouse 0.12 tools/jailhouse-cell-list.
    "cells": "ID      Name          State     Assigned CPUs   Failed CPUs\n"
    "0       RootCell      running   0-127\n",
    # Forms that nobody foresaw.
    "a sentence": "Loaded modules: ext4 jailhouse kvm_amd\n",
    "JSON": '{"name": "jailhouse", "size": 49152}\n',
    "a device": "crw------- 1 root root 10, 59 Nov 30 12:00 /dev/jailhouse\n",
    "a command": "root@h:~# modprobe jailhouse && jailhouse enable config.cell\nroot@h:~# \n",
    "its console": "Initializing Jailhouse hypervisor v0.12 (119-gda1f58b) on CPU 2\n",
    "the log": "[   5.0] jailhouse: loading out-of-tree module taints kernel.\n",
}


def jumper(text: str) -> object:
    """Who jumps by a dump of a bare machine, and `text` behind it."""
    return from_snapshot(parse_snapshot(f"{ROME}\n{text}", "dump"))["jumped_by"].value


def of_archive(members: dict[str, str], path: Path) -> Snapshot:
    with tarfile.open(path, "w") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return read_snapshot(path)


def test_without_such_a_module_the_kernel_jumps() -> None:
    assert jumper("") == "kernel"
    for text in LISTS.values():
        assert jumper(text.replace("{name}", "nvidia")) == "kernel"


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("name", ["jailhouse", "xen_acpi_processor", "mshv_root", "xen_gntdev"])
def test_who_is_below_is_told_by_a_list_of_modules(kind: str, name: str) -> None:
    text = LISTS[kind].replace("{name}", name)
    expected = {"xen_acpi_processor": "xen", "mshv_root": "hyper-v"}
    assert jumper(text) == expected.get(name)
    facts = from_snapshot(parse_snapshot(f"{ROME}\n{text}", "dump"))
    assert not any(one.machine.jumped_by_kernel for one in possible_machines(facts)) or (
        facts["jumped_by"].missing
    )


@pytest.mark.parametrize("kind", OF_SYSFS)
def test_jailhouse_is_told_by_sysfs_its_tool_and_the_log(kind: str) -> None:
    assert jumper(OF_SYSFS[kind]) in (None, "jailhouse")


@pytest.mark.parametrize(
    "text",
    [
        "# ls /sys/module/jailhouse\nls: cannot access '/sys/module/jailhouse': No such file\n# \n",
        "# lsmod | grep jailhouse\n# \n",
        "root@jailhouse:~# uname -n\njailhouse login: \nNov 30 12:00:00 jailhouse kernel: x\n",
        "BOOT_IMAGE=/vmlinuz-6.1-jailhouse root=/dev/vg/jailhouse\n/srv/jailhouse/README\n",
        "# cat /sys/devices/jailhouse/enabled\n"
        "cat: /sys/devices/jailhouse/enabled: No such file or directory\n# \n",
        "[  1.0] Modules linked in: ccp [last unloaded: jailhouse(O)]\n",
        # Built in, it has a directory on a bare machine too.
        "# ls /sys/module\nxen_acpi_processor  mshv_root  kvm\n# \n",
        "# ls -d /sys/module/xen*\n/sys/module/xen_blkfront\n# \n",
        # linux 7.3.4 drivers/xen/xenfs/super.c xenfs_init() ends well anywhere.
        "xenfs                  16384  0\n",
    ],
)
def test_what_is_not_loaded_tells_nothing(text: str) -> None:
    assert jumper(text) == "kernel"


DOM0 = "Name        ID   Mem VCPUs\tState\tTime(s)\nDomain-0    0  4096     8     r-----  10\n"
#: cpuid -r of the same machine, as sosreport keeps it.
RAW = as_cpuid_tool(parse_snapshot(ROME, "rome"))


@pytest.mark.parametrize(
    ("members", "who"),
    [
        ({"lsmod.txt": LSMOD.replace("{name}", "jailhouse")}, None),
        ({"host/proc/modules": PROC.replace("{name}", "jailhouse")}, None),
        ({"proc/modules": PROC.replace("{name}", "mshv_root")}, "hyper-v"),
        ({"sys/devices/jailhouse/enabled": "1\n"}, "jailhouse"),
        ({"a/sys/module/jailhouse/initstate": "live\n"}, None),
        ({"sys/module/jailhouse/refcnt": "0\n"}, None),
        ({"proc/xen/capabilities": "control_d\n"}, "xen"),
        ({"xl-list.txt": DOM0}, "xen"),
    ],
)
def test_files_of_an_archive_tell_it(
    members: dict[str, str], who: str | None, tmp_path: Path
) -> None:
    machine = of_archive({"dump.txt": ROME, **members}, tmp_path / "host.tar")
    assert from_snapshot(machine)["jumped_by"].value == who


@pytest.mark.parametrize(
    ("members", "who"),
    [
        ({"proc/modules": PROC.replace("{name}", "jailhouse")}, None),
        ({"sos_commands/kernel/lsmod": LSMOD.replace("{name}", "jailhouse")}, None),
        ({"sys/module/jailhouse/initstate": "live\n"}, None),
        ({"sys/devices/jailhouse/enabled": "1\n"}, "jailhouse"),
        ({"sos_commands/xen/xl_list": DOM0}, "xen"),
        ({"sos_commands/kernel/dmesg": LINKED.replace("{name}", "xen_acpi_processor")}, "xen"),
        ({"sys/hypervisor/type": "xen\n", "proc/xen/capabilities": "control_d\n"}, "xen"),
        # Beside what is laid out as a host.
        ({"lsmod.txt": LSMOD.replace("{name}", "xen_acpi_processor")}, "xen"),
    ],
)
@pytest.mark.parametrize("as_directory", [True, False])
def test_a_hosts_tree_tells_it(
    members: dict[str, str], who: str | None, as_directory: bool, tmp_path: Path
) -> None:
    files = {"proc/cmdline": "ro\n", "sos_commands/processor/cpuid_-r": RAW, **members}
    if as_directory and "lsmod.txt" not in members:
        for name, text in files.items():
            path = tmp_path / "host" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        machine = read_snapshot(tmp_path / "host")
    else:
        machine = of_archive(files, tmp_path / "host.tar")
    assert from_snapshot(machine)["jumped_by"].value == who
    without = of_archive(
        {name: text for name, text in files.items() if name not in members}, tmp_path / "less.tar"
    )
    assert from_snapshot(without)["jumped_by"].value == "kernel"


class Recorded(Tree):
    """A host's tree that notes which files are asked for."""

    def __init__(self) -> None:
        self.asked = set[str]()

    def read(self, path: str) -> bytes:
        """The content of a file."""
        self.asked.add(path)
        return b"1\n" if path.endswith(("enabled", "transition")) else super().read(path)

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        return {
            "sys/module": ["jailhouse", "kvm_amd", "kvm_intel"],
            "sys/kernel/livepatch": ["patch"],
            "sys/kernel/livepatch/patch": ["enabled"],
            "sys/bus/pci/drivers/ccp": ["0000:22:00.1"],
        }.get(path) or super().names(path)


def test_an_archive_keeps_each_file_that_a_directory_is_asked_for(tmp_path: Path) -> None:
    tree = Recorded()
    collect(tree)
    assert {"proc/sys/kernel/tainted", "sys/devices/jailhouse/enabled"} <= tree.asked
    # Devices and the log's device are no files.
    files = sorted(path for path in tree.asked if not path.startswith("dev/"))
    assert len(files) > 25
    members = dict.fromkeys((*files, "proc/cmdline"), "x\n")
    with tarfile.open(tmp_path / "host.tar", "w") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(f"top/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    with opened_evidence(tmp_path / "host.tar") as stream:
        kept = read_archive(stream)
    assert set(kept) == {f"top/{name}" for name in members}


#: Module -> whether it leaves open what the way into the next kernel does.
PATCHES = {
    "kpatch_4_18_0_553(OEK)": True,
    "livepatch_fix(EK)": True,
    "klp_tc_12(K)": True,
    "foo(OEK+)": True,
    "nvidia(POE)": False,
    "vendor(FSRMBUDAWCIOEL)": False,
    "xt(X)": False,
}


@pytest.mark.parametrize("listed", PATCHES)
@pytest.mark.parametrize(
    "form",
    [
        "[ 1.0] Modules linked in: ccp {name}({flags}) nbd\n",
        "{name} 16384 1 - Live 0xffffffffc0a45000 ({flags})\n",
        "> {name} 16384 1 a,b, Live 0x0000000000000000 ({flags})\n",
    ],
)
def test_a_letter_that_means_changed_kernel_code_has_its_effect(form: str, listed: str) -> None:
    name, _, flags = listed.rstrip(")").partition("(")
    text = form.replace("{name}", name).replace("{flags}", flags)
    fact = from_snapshot(parse_snapshot(f"{ROME}\n{text}", "dump"))["stop_path_changed"]
    assert bool(fact.value) is PATCHES[listed]


@pytest.mark.parametrize(
    "name", ["kpatch_1", "livepatch_2", "kgraft_patch_3", "lkp_Ubuntu_5", "ksplice_6x", "kcare"]
)
@pytest.mark.parametrize("form", [LSMOD, PROC.replace("OE", "O"), 'Module = "{name}"\n'])
def test_a_live_patch_is_told_by_its_name_where_no_letter_is_shown(name: str, form: str) -> None:
    machine = parse_snapshot(f"{ROME}\n{form.replace('{name}', name)}", "dump")
    fact = from_snapshot(machine)["stop_path_changed"]
    assert fact.value is True
    assert name in (fact.source or "")


def test_sysfs_of_live_patches_goes_before_names_but_not_before_those_of_no_kernel() -> None:
    tree = "# ls /sys/kernel/livepatch\n# \n"
    for name, changed in {"kpatch_old": True, "kcare": True}.items():
        text = f"{ROME}\n{tree}{LSMOD.replace('{name}', name)}"
        assert (
            bool(from_snapshot(parse_snapshot(text, "dump"))["stop_path_changed"].value) is changed
        )


def test_a_list_without_anything_that_tells_is_read_all_the_same() -> None:
    listed = listed_modules(LSMOD.replace("{name}", "nbd"))
    assert listed is not None
    assert not listed.modules
    assert parse_snapshot(LSMOD.replace("{name}", "nbd"), "lsmod.txt") == listed


def test_this_hosts_modules_are_collected_by_name(tmp_path: Path) -> None:
    for name in ("kcare", "jailhouse", "ext4"):
        (tmp_path / "sys/module" / name).mkdir(parents=True)
    document = collect(HostTree(str(tmp_path)))
    assert document["modules"] == {"jailhouse": {}, "kcare": {}}

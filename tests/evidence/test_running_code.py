# SPDX-License-Identifier: GPL-2.0-or-later
"""What changes the running code is collected: live patches, kprobes, taint and its modules."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.live import collect
from staleline.evidence.snapshot import LogEvidence, Snapshot, StateEvidence
from staleline.evidence.staleline_collect import HostTree, document_text
from staleline.evidence.staleline_collect import collect as collect_document
from staleline.facts.machine import from_snapshot

PATCH = "sys/kernel/livepatch/kpatch_7"
PROBES = "sys/kernel/debug/kprobes"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    return tmp_path


def write(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def live_patch(root: Path, *functions: str, enabled: str = "1", transition: str = "0") -> None:
    """As Documentation/ABI/testing/sysfs-kernel-livepatch of linux 7.3.4 says."""
    attributes = {"enabled": enabled, "transition": transition, "force": "", "replace": "0"}
    for name, text in (attributes | {"stack_order": "1"}).items():
        write(root, f"{PATCH}/{name}", text + "\n")
    for function in functions:
        (root / PATCH / function).mkdir(parents=True)
    if functions:
        write(root, f"{PATCH}/vmlinux/patched", "1\n")


def state(root: Path) -> StateEvidence:
    return collect(root).state


def test_a_live_patch_names_what_it_replaces(tree: Path) -> None:
    live_patch(tree, "vmlinux/native_stop_other_cpus,1", "vmlinux/vfs_read,1", "nfs/nfs_open,1")
    assert state(tree).livepatches == {
        "kpatch_7": ("nfs:nfs_open", "vmlinux:native_stop_other_cpus", "vmlinux:vfs_read")
    }


def test_a_live_patch_that_names_nothing_is_told_as_such(tree: Path) -> None:
    live_patch(tree)
    assert state(tree).livepatches == {"kpatch_7": None}


def test_one_with_an_attribute_that_is_not_known_is_not_believed_to_name_all(tree: Path) -> None:
    live_patch(tree, "vmlinux/vfs_read,1")
    write(tree, f"{PATCH}/a_new_attribute", "1\n")
    assert state(tree).livepatches == {"kpatch_7": None}


@pytest.mark.parametrize(("transition", "there"), [("0", False), ("1", True)])
def test_a_disabled_one_counts_while_its_transition_lasts(
    tree: Path, transition: str, there: bool
) -> None:
    live_patch(tree, "vmlinux/vfs_read,1", enabled="0", transition=transition)
    assert bool(state(tree).livepatches) is there


def test_a_copy_without_the_directory_says_nothing(tree: Path) -> None:
    found = state(tree)
    assert (found.livepatches, found.kprobes, found.tainted, found.tainting_modules) == (None,) * 4


class _Host(HostTree):
    """The same directory, taken for the host's own."""

    def __init__(self, root: Path, error: int) -> None:
        super().__init__(str(root))
        self.is_this_host = True
        self._error = error

    def names(self, path: str) -> list[str]:
        if path == "sys/kernel/livepatch":
            raise OSError(self._error, os.strerror(self._error), path)
        return super().names(path)

    def _inside(self, path: str) -> str:
        return os.path.join(self._root, path)


@pytest.mark.parametrize(("error", "told"), [(errno.ENOENT, {}), (errno.EACCES, None)])
def test_a_host_without_live_patching_has_none(tree: Path, error: int, told: Any) -> None:
    # Without CONFIG_LIVEPATCH there is no such directory (linux 7.3.4 kernel/livepatch/core.c).
    document = collect_document(_Host(tree, error))
    assert document["state"]["livepatches"] == told
    assert ("live patches" in {note["what"] for note in document["notes"]}) is (told is None)


#: linux 7.3.4 kernel/kprobes.c:2820 report_probe(); with kptr_restrict addresses are zeros.
LIST = """\
ffffffff9c0a1230  k  native_stop_other_cpus+0x0    [FTRACE]
0000000000000000  r  vfs_read+0x0    [DISABLED][FTRACE]
ffffffffc0801000  k  old_module_function+0x4  old [GONE]
ffffffff9c0a2000  k  __wbinvd+0x0/0x20    [OPTIMIZED]
ffffffffc0802000  k  nfs_open+0x10  nfs\x20
"""


def test_probes_that_are_not_disabled_are_listed(tree: Path) -> None:
    write(tree, f"{PROBES}/list", LIST)
    write(tree, f"{PROBES}/enabled", "1\n")
    assert state(tree).kprobes == ("__wbinvd+0x0", "native_stop_other_cpus+0x0", "nfs_open+0x10")


def test_where_all_are_disarmed_none_is_listed(tree: Path) -> None:
    write(tree, f"{PROBES}/list", LIST)
    write(tree, f"{PROBES}/enabled", "0\n")
    assert state(tree).kprobes == ()


def test_a_probe_whose_place_has_no_name_is_listed_as_such(tree: Path) -> None:
    write(tree, f"{PROBES}/list", "ffffffff9c0a1230  k  0xffffffff9c0a1230    \n")
    assert state(tree).kprobes == ("?",)


def test_thousands_of_probes_are_not_all_listed(tree: Path) -> None:
    lines = [f"ffffffff9c{i:06x}  k  function_{i}+0x0    [FTRACE]" for i in range(5000)]
    write(tree, f"{PROBES}/list", "\n".join(lines))
    probes = state(tree).kprobes
    assert probes is not None
    assert (len(probes), probes[-1]) == (4097, "?")


def test_taint_and_the_modules_that_taint(tree: Path) -> None:
    write(tree, "proc/sys/kernel/tainted", "12289\n")
    for module, flags in {"zfs": "POE", "kvm": "", "vboxdrv": "OE"}.items():
        write(tree, f"sys/module/{module}/taint", flags + "\n")
    found = state(tree)
    assert found.tainted == 12289
    assert found.tainting_modules == ("vboxdrv:OE", "zfs:POE")


def test_all_of_it_is_read_back_from_the_snapshot(tree: Path) -> None:
    live_patch(tree)
    write(tree, f"{PROBES}/list", LIST)
    write(tree, "proc/sys/kernel/tainted", "1\n")
    snapshot = collect(tree)
    assert parse_snapshot(snapshot_text(snapshot), "again").state == snapshot.state
    document = collect_document(HostTree(str(tree)))
    assert parse_snapshot(document_text(document), "document").state == snapshot.state


@pytest.mark.parametrize(
    ("lines", "tainted"),
    [
        (("livepatch: enabling patch 'kpatch_7'",), None),
        (("CPU: 0 PID: 7 Comm: sh Tainted: P      D W  OE K    6.1.0-50-amd64 #1",), None),
        (("Tainted: [W]=WARN, [K]=LIVEPATCH, [T]=RANDSTRUCT",), None),
        (("kpatch_7: tainting kernel with TAINT_LIVEPATCH",), None),
        ((), 1 << 15),  # linux 7.3.4 include/linux/panic.h:87
    ],
)
def test_a_live_patch_of_which_only_a_trace_is_left_may_have_changed_anything(
    lines: tuple[str, ...], tainted: int | None
) -> None:
    state = StateEvidence(tainted=tainted)
    patched = Snapshot(cpus=(), log=LogEvidence(lines, complete=False), state=state)
    assert from_snapshot(patched)["stop_path_changed"].value is True


def test_a_module_with_the_flag_of_live_patches_is_a_trace() -> None:
    for flags, changed in (("OEK", True), ("OE", None)):
        state = StateEvidence(tainting_modules=("loop:", f"nfs_7:{flags}"))
        assert from_snapshot(Snapshot(cpus=(), state=state))["stop_path_changed"].value is changed


def test_what_sysfs_says_of_live_patches_now_outweighs_the_trace() -> None:
    state = StateEvidence(tainted=1 << 15, livepatches={}, kprobes=())
    assert from_snapshot(Snapshot(cpus=(), state=state))["stop_path_changed"].value is False


@pytest.mark.parametrize(
    ("state", "changed"),
    [
        (StateEvidence(livepatches={"klp": ("vmlinux:meminfo_proc_show",)}, kprobes=()), False),
        (StateEvidence(livepatches={"klp": ("vmlinux",)}, kprobes=()), True),
        (StateEvidence(livepatches={"klp": ()}, kprobes=()), True),
        (StateEvidence(livepatches={}, kprobes=("meminfo_proc_show+0x0",)), False),
        (StateEvidence(livepatches={}, kprobes=("0xffffffff81012345",)), True),
        (StateEvidence(livepatches={}, kprobes=("",)), True),
    ],
)
def test_what_does_not_name_a_function_may_change_any(state: StateEvidence, changed: bool) -> None:
    facts = from_snapshot(Snapshot(cpus=(), state=state))
    assert facts["stop_path_changed"].value is changed

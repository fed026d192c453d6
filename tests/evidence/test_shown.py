# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that a command in a transcript shows tell what the collector reads in them."""

from __future__ import annotations

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.snapshot import Snapshot

CPUINFO = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 49\n"
    "stepping\t: 0\nflags\t\t: fpu sme\n\n"
)
PROMPTS = ["# ", "$ ", "root@node17:~# ", "[ann@node17 ~]$ sudo ", "+ "]


def read(text: str) -> Snapshot:
    return parse_snapshot(text, "file")


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("before", ["", f"$ cat /proc/cpuinfo\n{CPUINFO}", "# rdmsr 0x87\n0\n"])
def test_each_file_is_read_where_it_is_shown(prompt: str, before: str) -> None:
    shown = {
        "/proc/cmdline": "BOOT_IMAGE=/vmlinuz ro mem_encrypt=on",
        "/sys/kernel/reboot/force": "1",
        "/proc/xen/capabilities": "control_d",
        "/sys/devices/system/cpu/present": "0-7",
        "/sys/devices/system/cpu/online": "0-3,5-7",
        "/sys/kernel/kexec_loaded": "1",
        "/proc/sys/kernel/osrelease": "6.12.107+deb13-amd64",
        "/proc/sys/kernel/tainted": "0",
        "/sys/bus/pci/drivers/ccp/*/tsme_status": "1",
        "/sys/fs/cgroup/misc.peak": "sev 0\nsev_es 3",
    }
    text = before + "".join(f"{prompt}cat {path}\n{told}\n" for path, told in shown.items())
    machine = read(f"{text}{prompt}exit\n")
    assert machine.kernel.cmdline == "BOOT_IMAGE=/vmlinuz ro mem_encrypt=on"
    assert machine.kernel.release == "6.12.107+deb13-amd64"
    assert machine.state.reboot_force is True
    assert machine.state.offline_cpus == (4,)
    assert machine.state.kexec_loaded == 1
    assert machine.state.tainted == 0
    assert machine.state.tsme is True
    assert machine.state.sev_guests_run is True
    assert ("jumped_by", "xen") in {(one.name, one.value) for one in machine.statements}
    # Nothing is claimed of files that are not shown.
    assert (machine.modules, machine.state.livepatches, machine.state.kprobes) == (None,) * 3


def test_several_files_of_one_line_each() -> None:
    shown = read(
        f"{CPUINFO}# cat /sys/kernel/reboot/force /sys/kernel/kexec_loaded\n0\n1\n# exit\n"
    )
    assert (shown.state.reboot_force, shown.state.kexec_loaded) == (False, 1)


@pytest.mark.parametrize(
    "told",
    [
        "cat: /proc/cmdline: Permission denied\n",
        "BOOT_IMAGE=/vmlinuz ro\nmem_encrypt=on\n",  # wrapped
        "BOOT_IMAGE=/vmlinuz ro mem_encrypt=o",  # the end of the text
        "",
    ],
)
def test_what_may_not_be_the_whole_line_is_unknown(told: str) -> None:
    assert read(f"{CPUINFO}# cat /proc/cmdline\n{told}").kernel.cmdline is None


def test_a_command_without_a_prompt_and_prose_show_nothing() -> None:
    for line in ("cat /proc/cmdline", "look at cat /proc/cmdline"):
        assert read(f"{CPUINFO}{line}\nro mem_encrypt=on\n\n").kernel.cmdline is None


@pytest.mark.parametrize("told", ["kpatch_7\n", "kpatch_7", "kpatch_7  \n\n", "kpatch_7\n# exit\n"])
def test_a_live_patch_that_is_listed_is_one(told: str) -> None:
    state = read(f"{CPUINFO}# ls /sys/kernel/livepatch\n{told}").state
    assert state.livepatches == {"kpatch_7": None}
    assert read(f"{CPUINFO}# ls -1 /sys/kernel/livepatch/\na\nb\n# date\n").state.livepatches == {
        "a": None,
        "b": None,
    }


@pytest.mark.parametrize(
    "told", ["", "\n", "# exit\n", "ls: cannot access '/sys/kernel/livepatch': No such file\n"]
)
def test_a_list_without_a_name_proves_nothing(told: str) -> None:
    assert read(f"{CPUINFO}# ls /sys/kernel/livepatch\n{told}").state.livepatches is None


def test_kprobes_are_read_as_far_as_a_prompt_shows_them_whole() -> None:
    probe = "ffffffff81000000  k  stop_this_cpu+0x0    [FTRACE]\n"
    asked = f"{CPUINFO}# cat /sys/kernel/debug/kprobes/list\n{probe}"
    assert read(f"{asked}# exit\n").state.kprobes == ("stop_this_cpu+0x0",)
    assert read(f"{asked}# exit\n").state.livepatches is None
    for behind in ("", "\n", "\n# exit\n", "and so on\n"):
        assert read(f"{asked}{behind}").state.kprobes == ("?", "stop_this_cpu+0x0")
    assert read(f"{asked}{probe * 70}# exit\n").state.kprobes == ("?", "stop_this_cpu+0x0")
    assert read(f"{CPUINFO}# cat /sys/kernel/debug/kprobes/list\n").state.kprobes is None


def test_files_that_deny_another_output_are_a_contradiction() -> None:
    log = "[    0.000000] Linux version 6.1.9 (x) #1 SMP\n"
    with pytest.raises(EvidenceError, match="release"):
        read(f"# cat /proc/sys/kernel/osrelease\n6.12.1\n# dmesg\n{log}")


def test_a_command_line_that_changes_is_of_another_boot() -> None:
    """The last that was shown counted, beside all that was shown of the boot before."""
    shown = "# cat /proc/cmdline\nro mem_encrypt={}\n"
    text = f"{shown}# reboot\n{shown}# "
    assert read(text.format("on", "on")).kernel.cmdline == "ro mem_encrypt=on"
    with pytest.raises(EvidenceError, match=r"file:4: shows /proc/cmdline otherwise than line 1"):
        read(text.format("off", "on"))


def test_what_commands_change_is_as_it_was_shown_last() -> None:
    file = "/sys/kernel/kexec_loaded"
    shown = read(f"{CPUINFO}# cat {file}\n0\n# kexec -l vmlinuz\n# cat {file}\n1\n# exit\n")
    assert shown.state.kexec_loaded == 1


@pytest.mark.parametrize("command", ["reboot", "kexec -e", "my-own-script --all", "vi notes"])
@pytest.mark.parametrize("prompt", ["# ", "root@node17:~# ", "[jo@node17 ~]$ "])
def test_what_is_shown_ends_before_any_command(prompt: str, command: str) -> None:
    shown = read(f"{CPUINFO}{prompt}cat /proc/cmdline\nro quiet\n{prompt}{command}\ndone\n")
    assert shown.kernel.cmdline == "ro quiet"

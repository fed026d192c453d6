# SPDX-License-Identifier: GPL-2.0-or-later
"""What people paste: lscpu and dmesg output, as text."""

from __future__ import annotations

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.snapshot import CpuinfoEvidence, Snapshot
from staleline.facts.machine import from_snapshot
from staleline.policy.atoms import VENDORS
from staleline.verdict.machines.possible import possible_machines
from tests.evidence.writers import as_lscpu, as_lscpu_json, as_nested_lscpu_json

ROME = CpuinfoEvidence("AuthenticAMD", 23, 49, 0, frozenset({"fpu", "sme", "sev"}))


def read(text: str) -> Snapshot:
    return parse_snapshot(text, "file")


def message_of(text: str) -> str:
    with pytest.raises(EvidenceError) as caught:
        read(text)
    return str(caught.value)


class TestLscpu:
    @pytest.mark.parametrize("write", [as_lscpu, as_lscpu_json, as_nested_lscpu_json])
    def test_text_and_json_of_several_versions(self, write: object) -> None:
        assert callable(write)
        machine = read(write(ROME, 4, "4"))
        assert machine.cpuinfo == ROME
        assert machine.state.offline_cpus == (4,)
        assert machine.cpus == ()
        assert [note.what for note in machine.notes] == ["cpuid"]

    def test_no_offline_row_means_none_is_offline_only_if_all_are_counted(self) -> None:
        assert read(as_lscpu(ROME, 4)).state.offline_cpus == ()
        rows = as_lscpu(ROME, 4).splitlines(keepends=True)
        uncounted = "".join(row for row in rows if not row.startswith("CPU(s):"))
        assert read(uncounted).state.offline_cpus is None

    def test_flags_cut_short_are_not_flags(self) -> None:
        whole = as_lscpu(ROME)
        cut = whole[: whole.index("sme") + 2]
        assert read(cut).cpuinfo == CpuinfoEvidence("AuthenticAMD", 23, 49, 0)

    def test_rows_that_were_left_out_are_unknown(self) -> None:
        whole = as_lscpu(ROME)
        machine = read(whole[: whole.index("  Model:")])
        assert machine.cpuinfo == CpuinfoEvidence("AuthenticAMD", 23)
        assert message_of(as_lscpu_json(ROME)[:-20]).startswith("file: is not whole JSON")

    @pytest.mark.parametrize("left", ["Architecture", "CPU(s)", "Stepping", "Hypervisor vendor"])
    def test_one_row_is_read_as_any_part_is(self, left: str) -> None:
        rows = (as_lscpu(ROME) + "Hypervisor vendor: KVM\n").splitlines(keepends=True)
        machine = read("Architecture: x86_64\n" + "".join(row for row in rows if left in row))
        assert from_snapshot(machine)["vendor"].value is None

    def test_lscpu_of_another_architecture(self) -> None:
        text = "Architecture: aarch64\nCPU(s): 8\nVendor ID: ARM\nModel name: Cortex-A76\n"
        assert message_of(text) == "file: is of an aarch64 machine; staleline knows x86-64"

    def test_lscpu_of_two_machines(self) -> None:
        other = CpuinfoEvidence("GenuineIntel", 6, 143, 8)
        assert message_of(as_lscpu(ROME) + as_lscpu(other)).startswith(
            "file: field Vendor ID is 'AuthenticAMD' and 'GenuineIntel'"
        )

    def test_json_of_another_shape(self) -> None:
        assert "field Vendor ID is missing" in message_of('{"lscpu": [1, {"field": 2}, null]}')
        assert "field Vendor ID is missing" in message_of('{"lscpu": {}}')


#: Linux 6.12.117: setup_arch(), start_kernel(), mem_encrypt_init(), kernel_init().
BOOT = [
    "Linux version 6.12.107+deb13-amd64 (debian-kernel@lists.debian.org) #1 SMP",
    "Command line: BOOT_IMAGE=/vmlinuz mem_encrypt=on",
    "Kernel command line: BOOT_IMAGE=/vmlinuz mem_encrypt=on",
    "Memory Encryption Features active: AMD SME",
    "Freeing unused kernel image (initmem) memory: 3988K",
    "Run /init as init process",
    "kexec: loaded",
]


def dmesg(*messages: str) -> str:
    return "".join(f"[{i:5}.000000] {message}\n" for i, message in enumerate(messages))


class TestDmesg:
    @pytest.mark.parametrize(
        "line",
        [
            "[    0.000000] {}",
            "<6>[    0.000000] {}",
            "[    0.000000][    T0] {}",
            "[Tue Nov 23 10:00:00 2026] {}",
            "Nov 23 10:00:00 node17 kernel: {}",
            "Nov 23 10:00:00 node17 kernel: [    0.000000] {}",
            "2026-11-23T10:00:00.123456+00:00 node17 kernel: {}",
            "6,0,0,-;{}",
            "<6>1 2026-11-23T10:00:00.123456+01:00 node17 kernel - - - {}",
        ],
    )
    def test_a_boot_in_every_dress(self, line: str) -> None:
        machine = read("".join(line.format(message) + "\n" for message in BOOT))
        assert machine.kernel.release == "6.12.107+deb13-amd64"
        assert machine.kernel.cmdline == "BOOT_IMAGE=/vmlinuz mem_encrypt=on"
        assert machine.state.sme_active is True
        assert machine.log is not None
        assert machine.log.lines == (BOOT[3], BOOT[6])
        assert not machine.log.complete

    def test_silence_means_nothing_however_the_text_begins_and_ends(self) -> None:
        state = read(dmesg(*(line for line in BOOT if "Memory Encryption" not in line))).state
        assert state.sme_active is None
        assert state.tdx_module is None
        assert state.sev_guests_run is None

    def test_a_tdx_module(self) -> None:
        machine = read(dmesg("virt/tdx: module initialized"))
        assert machine.state.tdx_module == "initialized"
        assert machine.state.sme_active is None

    def test_the_last_boot_counts(self) -> None:
        second = ["Linux version 6.1.9 (x) #1", *BOOT[4:]]
        machine = read(dmesg(*BOOT, *second))
        assert machine.kernel.release == "6.1.9"
        assert machine.kernel.cmdline is None
        assert machine.state.sme_active is None

    @pytest.mark.parametrize(
        "between",
        ["-- Boot 3f2a9c0d4e5b46718293a4b5c6d7e8f9 --", "-- Reboot --"],
    )
    def test_journalctl_parts_two_boots(self, between: str) -> None:
        machine = read(f"{dmesg(*BOOT)}{between}\n{dmesg(BOOT[6])}")
        assert machine.kernel.release is None
        assert machine.state.sme_active is None

    def test_a_boot_whose_first_message_is_gone_is_not_the_one_before(self) -> None:
        second = "[    0.000000] efi: EFI v2.7 by x\n"  # time has gone back
        assert read(dmesg(*BOOT) + second).kernel.release is None
        # Without times: what is printed once in a boot was printed again.
        untimed = "".join(f"node kernel: {line}\n" for line in (*BOOT, *BOOT[1:3]))
        untimed = untimed.replace("node", "Nov 23 10:00:00 node")
        assert read(untimed).kernel.release is None

    def test_the_command_line_that_bootconfig_adds_to_is_the_later_one(self) -> None:
        early, late = (
            "Command line: ro bootconfig",
            "Kernel command line: reboot=force ro bootconfig",
        )
        assert read(dmesg(early, late)).kernel.cmdline == "reboot=force ro bootconfig"
        assert read(dmesg(early)).kernel.cmdline is None

    def test_a_command_line_that_is_wrapped_is_unknown(self) -> None:
        # Linux 7.3.4 init/main.c print_kernel_cmdline()
        lines = ("Kernel command line: ro \\", "Kernel command line: quiet")
        assert read(dmesg(*lines)).kernel.cmdline is None
        assert read(dmesg(lines[0])).kernel.cmdline is None

    def test_a_command_line_that_printk_cut_is_unknown(self) -> None:
        line = "Command line: " + "x" * 980
        assert read(dmesg(BOOT[0], line)).kernel.cmdline is None

    @pytest.mark.parametrize("heading", ["On the other one:", "## Works", "dmesg of node18:"])
    def test_a_heading_between_two_logs_may_part_two_machines(self, heading: str) -> None:
        assert message_of(f"{dmesg(*BOOT)}\n{heading}\n{dmesg(*BOOT)}") == (
            "file:10: begins another log below a heading, which may be of another machine; "
            "give one file per machine, with one log"
        )
        loader = "Loading Linux 6.1.9 ...\nLoading initial ramdisk ...\n"
        assert read(f"{dmesg(*BOOT)}{loader}{dmesg(*BOOT)}").state.sme_active is True


class TestVendor:
    CPUINFO = "processor\t: 0\nvendor_id\t: {}\ncpu family\t: 23\nflags\t\t: fpu {}\n\n"
    LSCPU = "Architecture: x86_64\nVendor ID: {}\nCPU family: 23\nFlags: fpu {}\n"

    @pytest.mark.parametrize("text", [CPUINFO, LSCPU])
    @pytest.mark.parametrize("name", ["REDACTED", "[redacted]", "unknown", "AMD", "************"])
    def test_a_name_that_is_none_leaves_those_that_the_flags_leave(
        self, text: str, name: str
    ) -> None:
        # linux 7.3.4 arch/x86/kernel/cpu/proc.c:76 prints "unknown" itself.
        possible = possible_machines(from_snapshot(read(text.format(name, "sme sev"))))
        assert {one.machine.vendor for one in possible} == {"AuthenticAMD", "HygonGenuine"}
        possible = possible_machines(from_snapshot(read(text.format(name, ""))))
        assert {one.machine.vendor for one in possible} == set(VENDORS)

    @pytest.mark.parametrize("text", [CPUINFO, LSCPU])
    def test_spaces_at_the_ends_of_a_name_are_of_the_name(self, text: str) -> None:
        # linux 7.3.4 arch/x86/kernel/cpu/zhaoxin.c:104
        cpuinfo = read(text.format("  Shanghai  ", "")).cpuinfo
        assert cpuinfo is not None
        assert cpuinfo.vendor == "  Shanghai  "

# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUID rows of x86info, kcpuid, xen-cpuid, cpucontrol, CPU-Z and whoever names the registers.

Layouts: x86info dumpregs.c; Linux 7.3.4 tools/arch/x86/kcpuid/kcpuid.c; Xen
tools/misc/xen-cpuid.c print_policy(); FreeBSD usr.sbin/cpucontrol/cpucontrol.c; CPU-Z's reports
and the first cpuid's output as people posted them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.cpuid.dump import INDEXED_LEAVES
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.registers import Registers
from staleline.evidence.snapshot import Snapshot
from tests.evidence import writers

ROME = Path(__file__).parents[2] / "data/cpuid/full/amd-epyc-7742-64-core-processor-dual.test.xz"
SME_LEAF = (0x0001000F, 0x0000016F, 0x000001FD, 0x00000001)

Leaves = dict[tuple[int, int], Registers]


@pytest.fixture(scope="module")
def rome() -> Snapshot:
    return Snapshot(cpus=read_snapshot(ROME).cpus[:2])


def leaves_of(machine: Snapshot, cpu: int = 0) -> Leaves:
    return dict(machine.cpus[cpu].cpuid.leaves)


def unindexed(leaves: Leaves) -> Leaves:
    """Those that a row tells for certain that names no sub-leaf."""
    return {key: registers for key, registers in leaves.items() if key[0] not in INDEXED_LEAVES}


def not_zero(leaves: Leaves) -> Leaves:
    return {key: registers for key, registers in leaves.items() if any(registers)}


def message_of(text: str) -> str:
    with pytest.raises(EvidenceError) as caught:
        parse_snapshot(text, "file")
    return str(caught.value)


@pytest.mark.parametrize("written_as", [writers.as_x86info, writers.as_columns, writers.as_cpu_z])
def test_tools_that_name_no_sub_leaf_tell_the_leaves_that_have_none(
    rome: Snapshot, written_as: Callable[[Snapshot], str]
) -> None:
    machine = parse_snapshot(written_as(rome), "dump")
    for cpu in range(len(machine.cpus)):
        assert leaves_of(machine, cpu) == unindexed(leaves_of(rome, cpu))
    assert [note.what.split()[:2] for note in machine.notes] == [["CPUID", "leaf"]]


def test_dumps_of_all_cpus_tell_all(rome: Snapshot) -> None:
    assert len(parse_snapshot(writers.as_x86info(rome), "dump").cpus) == 2
    machine = parse_snapshot(writers.as_cpu_z(rome), "dump")
    assert [cpu.msr for cpu in machine.cpus] == [{0x1B: 0xFEE00900}] * 2


def test_xens_raw_policy_is_the_cpu_and_its_others_are_not(rome: Snapshot) -> None:
    raw = writers.as_xen_policy(rome, indexed=INDEXED_LEAVES)
    host = writers.as_xen_policy(rome, "Host", indexed=INDEXED_LEAVES).replace("0001000f", "0" * 8)
    before = "Xen reports there are maximum 120 leaves and 2 MSRs\n"
    machine = parse_snapshot(before + raw + host, "file")
    assert leaves_of(machine) == not_zero(leaves_of(rome))
    assert message_of(before + host).startswith(
        "file:2: is what Xen shows to guests, not what the CPU answers; give the output of"
    )


def test_kcpuid_and_cpucontrol_name_every_sub_leaf(rome: Snapshot) -> None:
    kcpuid = parse_snapshot(writers.as_kcpuid(rome, indexed=INDEXED_LEAVES), "file")
    assert leaves_of(kcpuid) == not_zero(leaves_of(rome))
    cpucontrol = parse_snapshot(writers.as_cpucontrol(rome), "file")
    assert leaves_of(cpucontrol) == leaves_of(rome)
    assert kcpuid.notes == cpucontrol.notes == ()


@pytest.mark.parametrize(
    "row",
    [
        "CPUID 0x8000001f: EAX=0x0001000f EBX=0x0000016f ECX=0x000001fd EDX=0x00000001",
        "CPUID[0x8000001F]: EDX=00000001 ECX=000001FD EBX=0000016F EAX=0001000F",
        "leaf 0x8000001f subleaf 0x00: eax: 0x1000f, ebx: 0x16f, ecx: 0x1fd, edx: 0x1",
        "cpuid(8000001Fh, 0) -> eax=0001000fh ebx=0000016fh ecx=000001fdh edx=00000001h",
        "Function 0x8000001f | EAX 0x0001000f | EBX 0x0000016f | ECX 0x000001fd | EDX 0x00000001",
        "leaf,subleaf,eax,ebx,ecx,edx\n0x8000001f,0x0,0x0001000f,0x0000016f,0x000001fd,0x00000001",
        "| leaf | eax | ebx | ecx | edx |\n|---|---|---|---|---|\n"
        "| 0x8000001f | 0x0001000f | 0x0000016f | 0x000001fd | 0x00000001 |",
    ],
)
def test_rows_that_name_leaf_and_registers(row: str) -> None:
    assert leaves_of(parse_snapshot(f"{row}\n", "file")) == {(0x8000001F, 0): SME_LEAF}


HOST = {0: (0xD, 0x756E6547, 0x6C65746E, 0x49656E69), 4: (0x121, 0x1C0003F, 0x3F, 0)}


def test_virtualboxs_log_tells_the_host_below_what_the_guest_is_shown() -> None:
    """VBox.log, as VirtualBox 5 to 7 write it."""
    text = "00:00:00.154942      Leaf/sub-leaf  eax      ebx      ecx      edx\n"
    for leaf, registers in HOST.items():
        guest = f"00:00:00.154942 Gst: {leaf:08x}/0000  0000000d 00000000 00000000 00000000\n"
        host = " ".join(f"{register:08x}" for register in registers)
        text += f"{guest}00:00:00.154943 Hst:                {host}\n"
    expected = {(leaf, 0): registers for leaf, registers in HOST.items()}
    assert leaves_of(parse_snapshot(text, "file")) == expected


@pytest.mark.parametrize("before", ["Aug 18 10:01:57.546: vmx| ", "2026-11-23| vmx| I125: ", ""])
def test_vmwares_log_tells_the_host(before: str) -> None:
    text = f"{before}hostCPUID vendor: GenuineIntel\n"
    for leaf, registers in HOST.items():
        values = " ".join(f"0x{register:08x}" for register in registers)
        text += f"{before}hostCPUID level {leaf:08x}, 0: {values}\n"
        text += f"{before}guestCPUID level {leaf:08x}, 0: {values.replace('1', '2')}\n"
    expected = {(leaf, 0): registers for leaf, registers in HOST.items()}
    assert leaves_of(parse_snapshot(text, "file")) == expected


class TestWhatIsNotCertain:
    """Nothing of it is guessed: it is refused with its line, or left out with a note."""

    def test_numbers_that_nothing_names(self) -> None:
        text = "of a forum:\n8000001f 0001000f 0000016f 000001fd 00000001\n"
        assert message_of(text).startswith(
            "file:2: has numbers of which nothing says which are leaf and registers; give"
        )
        six = "00000007 00000000 00000000 219c07a9 00400684 00000000\n"
        assert message_of(six).startswith("file:1: has numbers of which nothing says")

    def test_more_numbers_than_headings(self) -> None:
        text = "leaf eax ebx ecx edx\n00000007 00000000 00000000 219c07a9 00400684 00000000\n"
        assert message_of(text).startswith("file:2: has 6 numbers below 5 headings; give")

    def test_a_register_that_is_named_twice(self) -> None:
        row = "leaf 0x8000001f: eax=0x0001000f eax=0x0000016f ecx=0x000001fd edx=0x00000001\n"
        assert message_of(row).startswith("file:1: names a register twice")

    def test_a_sub_leaf_of_a_leaf_that_nothing_names(self) -> None:
        row = "  1: EAX=0x00000001, EBX=0x00000002, ECX=0x00000003, EDX=0x00000004\n"
        known = "0x00000001: EAX=0x00a00f11, EBX=0x00020800, ECX=0xfffa3203, EDX=0x178bfbff\n"
        assert message_of(known + row).startswith("file:2: is of a leaf that nothing names")

    @pytest.mark.parametrize("digits", range(1, 8))
    def test_a_last_number_that_may_be_cut(self, digits: int) -> None:
        row = "eax in: 0x00000001, eax = 000206c2 ebx = 00040800 ecx = 82982223 edx = 1fabfbff"
        leaf = "eax in: 0x00000000, eax = 0000000b ebx = 756e6547 ecx = 6c65746e edx = 49656e69\n"
        # At the end of the text it is left out, as a copy ends so.
        assert parse_snapshot(leaf + row[: -8 + digits], "file").notes[-1].what == "last line"
        for end in ("\n", "\nmore\n"):
            assert message_of(leaf + row[: -8 + digits] + end).startswith(
                "file:2: is not a whole row"
            )
        named = "0x8000001f 0x00: eax=0x0001000f ebx=0x0000016f ecx=0x000001fd edx=0x0000"
        assert message_of(f"cpuid {named}\n").startswith("file:1: may lack the end of its last")

    def test_a_second_value_of_one_leaf(self) -> None:
        row = "leaf 0x8000001f: eax=0x0001000f ebx=0x0000016f ecx=0x000001fd edx=0x00000001\n"
        assert "contradicts line 1" in message_of(row + row.replace("0001000f", "0000000f"))

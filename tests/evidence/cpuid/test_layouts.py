# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUID dumps as public collections have them: headings, spacing, what stands in between.

The layouts are of InstLatx64's collection (github.com/InstLatx64/InstLatx64); the file that shows
one is named at it. Rows are cut down to those that matter here.
"""

from __future__ import annotations

import bz2
from collections.abc import Callable
from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.cpuid.dump import INDEXED_LEAVES
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.snapshot import Snapshot
from staleline.facts import MachineFacts, from_snapshot
from tests.evidence.writers import (
    as_affinity_list,
    as_aida64,
    as_aida64_without_headings,
    as_columns,
    as_cpu_z,
    as_cpucontrol,
    as_cpuid_tool,
    as_everest,
    as_hwloc_files,
    as_kcpuid,
    as_libcpuid_raw,
    as_libvirt,
    as_tar,
    as_x86info,
    as_xen_policy,
)
from tests.sampling import covering

DATA = Path(__file__).parents[2] / "data" / "cpuid"
ROME = DATA / "full" / "amd-epyc-7742-64-core-processor-dual.test.xz"
VENDOR = "CPUID 00000000: 00000010-68747541-444D4163-69746E65"
SIGNATURE = "CPUID 00000001: 00830F10-00800800-7EF8320B-178BFBFF"
EXTENDED = "CPUID 80000000: 80000020-68747541-444D4163-69746E65"
SME = "CPUID 8000001F: 0001000F-0000016F-000001FD-00000001"
ROWS = f"{VENDOR}\n{SIGNATURE}\n{EXTENDED}\n{SME}\n"


def read(text: str | bytes) -> Snapshot:
    return parse_snapshot(text, "dump")


def facts_of(machine: Snapshot) -> dict[str, object]:
    return {fact.name: fact.value for fact in from_snapshot(machine)}


def message_of(text: str | bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        read(text)
    return str(caught.value)


@pytest.fixture(scope="module")
def rome() -> Snapshot:
    return Snapshot(cpus=read_snapshot(ROME).cpus[:3])


class TestHeadings:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            # GenuineIntel00006F2_Conroe_CPUID.txt, which counts from 1
            ("CPUID Registers (CPU #1):", "\nCPUID Registers (CPU #2):"),
            ("CPUID Registers (CPU #1):", "\nCPUID Registers (CPU #2 Virtual):"),
            # AuthenticAMD0A70F80_K19_Phoenix2_01_CPUID.txt
            (
                "Group: 0x00 Affinity mask: 0x0000000000000001",
                "Group: 0x00 Affinity mask: 0x0000000000000002",
            ),
            # AuthenticAMD0100F42_K10_Callisto_CPUID2.txt
            ("CPU#000 AffMask: 0x0000000000000001 ", "\nCPU#001 AffMask: 0x0000000000000002 "),
            # AuthenticAMD0060FB1_K8_Brisbane_CPUID.txt
            (
                "------[ Logical CPU #0 ]------\n\nallcpu: Valid\n",
                "\n------[ Logical CPU #1 ]------\n\nallcpu: Valid, Virtual\n",
            ),
            # GenuineIntel0000F48_P4_Paxville_CPUID.txt
            ("", ""),
        ],
    )
    def test_each_begins_a_cpu(self, first: str, second: str) -> None:
        machine = read(f"{first}\n{ROWS}{second}\n{ROWS}")
        assert len(machine.cpus) == 2
        assert facts_of(machine)["sme"] is True

    def test_cpus_without_rows_are_missing_and_nothing_else(self) -> None:
        heading = "------[ CPUID Registers / Logical CPU #{} ]------\n"
        text = heading.format(0) + ROWS + heading.format(1) + heading.format(2) + ROWS
        assert len(read(text).cpus) == 2

    def test_a_list_of_cpus_before_the_dump_is_no_second_machine(self) -> None:
        listed = "CPU#000 AffMask: 0x1 \nCPU#000 APIC_ID:0x0 \nCPU#001 AffMask: 0x2 \n"
        text = f"{listed}CPU#000 AffMask: 0x1 \n{ROWS}CPU#001 AffMask: 0x2 \n{ROWS}"
        assert len(read(text).cpus) == 2

    def test_what_stands_around_the_rows_is_passed_over(self) -> None:
        # GenuineIntel0000532_P24T_CPUID.txt
        text = (
            "------[ Versions ]------\n\nProgram Version : EVEREST v5.30.2027 Beta\n\n"
            "------[ CPU Info ]------\n\nCPUID Manufacturer : GenuineIntel\n"
            "CPUID Revision     : 00001532h\n\n------[ Logical CPU #0 ]------\n\n"
            "allcpu: Package 0 / Core 0 / Thread 0: Valid\n\n"
            "CPUID 00000000: 00000001-756E6547-6C65746E-49656E69\n"
            "CPUID 00000001: 00001532-00000000-00000000-0000013F\n\n"
            "------[ All CPUs ]------\n\nCPU   0: APICID   0 / Package 0 / Core  0: Valid\n\n"
            "------[ MSR Registers ]------\n\n\nPerformanceFrequency = 1193180\n"
        )
        facts = facts_of(read(text))
        assert (facts["vendor"], facts["family"], facts["model"]) == ("GenuineIntel", 5, 3)
        assert facts["max_extended_leaf"] is None

    def test_cpus_whose_dump_has_no_extended_leaves_are_whole(self) -> None:
        # GenuineIntel0000673_P3_KatmaiDP_CPUID.txt
        rows = (
            "CPUID 00000000: 00000003-756E6547-6C65746E-49656E69\n"
            "CPUID 00000001: 00000673-00000000-00000000-0387FBFF\n"
            "CPUID 00000002: 03020101-00000000-00000000-0C040843\n"
        )
        heading = "------[ Logical CPU #{} ]------\n"
        assert len(read(heading.format(0) + rows + heading.format(1) + rows).cpus) == 2


class TestRows:
    @pytest.mark.parametrize(
        "row",
        [
            # AuthenticAMD0500F20_K14_Bobcat_CPUID.txt
            "CPUID 00000000 :00000010-68747541-444D4163-69746E65",
            # The spaces of AuthenticAMD0010FF0_K8_Palermo_CPUID.txt
            "CPUID 00000000: 00000010 68747541 444D4163 69746E65",
            "CPUID 00000000\t00000010-68747541-444D4163-69746E65",
            "  cpuid 00000000: 00000010-68747541-444d4163-69746e65 [AuthenticAMD]",
        ],
    )
    def test_spacing_and_case_do_not_matter(self, row: str) -> None:
        assert facts_of(read(row + "\n"))["vendor"] == "AuthenticAMD"

    def test_rows_of_one_leaf_that_follow_each_other_are_its_sub_leaves(self) -> None:
        rows = "CPUID 00000002: 00000002-00000000-00000000-00000001\n"
        again = rows.replace("00000001\n", "00000003\n")
        leaves = read(f"{VENDOR}\n{rows}{again}").cpus[0].cpuid.leaves
        assert list(leaves) == [(0, 0), (2, 0), (2, 1)]

    @pytest.mark.parametrize("cut", ["C", "CPUI", "CPUID ", "CPUID 8000001F: 0001000F-0"])
    def test_a_row_cut_at_the_end_of_the_file_is_left_out(self, cut: str) -> None:
        """Partial evidence is no error."""
        machine = read(ROWS + cut)
        assert machine.cpus == read(ROWS).cpus
        assert machine.notes[-1].what == "last line"

    def test_a_row_that_is_short_amid_others_is_no_cut(self) -> None:
        cut = "CPUID 8000001F: 0001000F-0"
        assert message_of(f"{ROWS}{cut}\n{ROWS}").startswith("dump:5: is not a whole AIDA64")

    def test_of_a_second_cpu_that_was_cut_what_came_before_is_read(self) -> None:
        machine = read(f"{ROWS}\n{VENDOR}\n{SIGNATURE}\n")
        assert [len(cpu.cpuid.leaves) for cpu in machine.cpus] == [4, 2]
        assert facts_of(machine) == facts_of(read(f"{ROWS}\n"))

    def test_a_dump_of_extended_leaves_alone_tells_what_they_tell(self) -> None:
        facts = facts_of(read(f"{EXTENDED}\n{SME}\n"))
        assert (facts["vendor"], facts["sme"], facts["family"]) == ("AuthenticAMD", True, None)

    @pytest.mark.parametrize("header", ["CPU 0:\n", "CPU:\n", "    CPU:\n", ""])
    def test_one_leaf_of_cpuid_is_partial_evidence(self, header: str) -> None:
        # cpuid -1 -r -l 0x8000001f of a Milan (github.com/AMDESE/AMDSEV issue 197)
        row = "   0x8000001f 0x00: eax=0x0101fd3f ebx=0x00004133 ecx=0x000000fd edx=0x0000000f\n"
        machine = read(header + row)
        assert machine.cpus[0].cpuid.recorded(0x8000001F) is not None
        assert facts_of(machine)["vendor"] is None

    def test_one_leaf_after_the_other_is_one_cpu(self) -> None:
        row = "   {} 0x00: eax=0x00000001 ebx=0x00000002 ecx=0x00000003 edx=0x00000004\n"
        text = f"CPU:\n{row.format('0x00000000')}CPU:\n{row.format('0x8000001f')}"
        assert set(read(text).cpus[0].cpuid.leaves) == {(0, 0), (0x8000001F, 0)}


class TestMsrs:
    ROW = "MSR C0010010: 0000-0000-0074-0000\n"

    def test_a_section_that_names_its_cpu_is_that_cpus(self) -> None:
        heading = "------[ {} / Logical CPU #{} ]------\n"
        text = "".join(heading.format("CPUID Registers", i) + ROWS for i in (0, 1))
        machine = read(text + heading.format("MSR Registers", 1) + self.ROW)
        assert [cpu.msr for cpu in machine.cpus] == [{}, {0xC0010010: 0x740000}]
        assert facts_of(machine)["sme_enabled"] is False

    def test_a_section_without_a_number_is_the_only_cpus_or_nobodys(self) -> None:
        msrs = f"\n------[ MSR Registers ]------\n\n{self.ROW}MSR 00000300: < FAILED >\n"
        assert read(ROWS + msrs).cpus[0].msr == {0xC0010010: 0x740000}
        assert [cpu.msr for cpu in read(ROWS + ROWS + msrs).cpus] == [{}, {}]

    def test_a_counter_that_is_given_twice_has_no_value(self) -> None:
        text = f"{ROWS}MSR Registers\n{self.ROW}{self.ROW.replace('0074', '0075')}"
        assert read(text).cpus[0].msr == {}
        # Nor where a third row repeats one of them.
        assert read(f"{text}{self.ROW}").cpus[0].msr == {}

    def test_a_row_cut_short_is_refused_but_at_the_end(self) -> None:
        cut = f"{ROWS}MSR Registers\nMSR C0010010: 0000-0000-00"
        assert "dump:6: is not a whole AIDA64 MSR row" in message_of(f"{cut}\n")
        assert read(cut).cpus == read(ROWS).cpus


class TestFiles:
    @pytest.mark.parametrize(
        "encoded",
        [
            ROWS.replace("\n", "\r\n").encode(),
            ROWS.replace("\n", "\r").encode(),
            ROWS.replace("\n", "\r\r\n").encode(),
            ROWS.encode("utf-8-sig"),
            ROWS.encode("utf-16"),
            ROWS.encode("utf-16-le"),
            ROWS.encode("utf-16-be"),
            b"# 2,4 GHz \x96 Prozessor \xae\n" + ROWS.encode(),
            ROWS.encode() + b"\x1a",
        ],
    )
    def test_line_ends_and_encodings_do_not_matter(self, encoded: bytes) -> None:
        assert read(encoded) == read(ROWS)

    def test_a_bzip2_file(self, tmp_path: Path) -> None:
        path = tmp_path / "dump.bz2"
        path.write_bytes(bz2.compress(ROWS.encode()))
        assert read_snapshot(path) == read(ROWS)
        path.write_bytes(bz2.compress(ROWS.encode())[:-9])
        with pytest.raises(EvidenceError, match="cut short"):
            read_snapshot(path)


class TestLibcpuid:
    def test_arrays_are_named_after_leaves_in_decimal_or_with_an_h(self) -> None:
        text = (
            "basic_cpuid[0]=00000010 68747541 444d4163 69746e65\n"
            "intel_fn11[1]=00000001 00000002 00000003 00000004\n"
            "amd_fn80000026h[0]=00000001 00000002 00000003 00000004\n"
        )
        assert set(read(text).cpus[0].cpuid.leaves) == {(0, 0), (0xB, 1), (0x80000026, 0)}


class TestHwloc:
    def test_a_directory_is_the_machine(self, rome: Snapshot, tmp_path: Path) -> None:
        for name, text in as_hwloc_files(rome).items():
            (tmp_path / name).write_text(text)
        assert facts_of(read_snapshot(tmp_path)) == facts_of(rome)

    def test_an_archive_of_it_too(self, rome: Snapshot, tmp_path: Path) -> None:
        many = Snapshot(cpus=rome.cpus * 20)
        path = tmp_path / "gathered.tar"
        files = {f"x86-cpuid/{name}": text for name, text in as_hwloc_files(many).items()}
        path.write_bytes(as_tar(files))
        assert len(read_snapshot(path).cpus) == 60

    def test_ecx_is_the_sub_leaf_only_where_the_leaf_has_any(self) -> None:
        # Without a mask bit ECX is what the row before left in it (dump_one_cpuid()).
        text = "# mask e[abcd]x => e[abcd]x\n1 0 1 2 3=> d 1 2 3\n5 4 0 1 0=> 122 1c0003f 3f 0\n"
        assert set(read(text).cpus[0].cpuid.leaves) == {(0, 0), (4, 1)}

    def test_an_unfinished_row_is_refused(self) -> None:
        assert message_of("1 0 0 0 0=> d 68747541 444d4163 6974").startswith(
            "dump:1: is not a whole hwloc row"
        )


DUMPS = sorted(DATA.glob("libcpuid/*")) + sorted(DATA.glob("registers/*"))


def test_rows_before_the_heading_of_the_first_cpu_are_its_own() -> None:
    """As of `cpuid -r -1` for one leaf after another, of which one heading was not copied."""
    row = "   0x8000001f 0x00: eax=0x0101fd3f ebx=0x00004133 ecx=0x000001fd edx=0x00000001\n"
    first = "   0x00000000 0x00: eax=0x00000010 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n"
    (cpu,) = read(f"{first}CPU:\n{row}").cpus
    assert set(cpu.cpuid.leaves) == {(0, 0), (0x8000001F, 0)}
    assert "begins a second time" in message_of(f"{first}CPU:\n{row}{first.replace('10 ', '0d ')}")
    assert len(read(f"{first}CPU 1:\n{row}").cpus) == 2


@pytest.mark.parametrize("quote", ["", "> ", "> > "])
@pytest.mark.parametrize("registers", [1, 2, 3])
def test_rows_that_a_mail_program_wrapped_are_read(
    rome: Snapshot, quote: str, registers: int
) -> None:
    """At 72 characters a row of cpuid -r ends before its last register."""
    text = as_cpuid_tool(rome)
    wrapped = "".join(
        f"{quote}{' '.join(words[:-registers])}\n{quote}{' '.join(words[-registers:])}\n"
        if len(words := line.split(" ")) > 4
        else f"{quote}{line}\n"
        for line in text.split("\n")
    )
    assert read(wrapped).cpus == read(text).cpus


@pytest.mark.parametrize("dump", DUMPS, ids=lambda path: path.name)
def test_every_layout_of_a_dump_gives_its_facts(dump: Path, tmp_path: Path) -> None:
    first = read_snapshot(dump)
    machine = Snapshot(cpus=first.cpus[:1] * 3)
    expected = facts_of(machine)
    for write in (as_aida64_without_headings, as_everest, as_affinity_list):
        assert facts_of(read(write(machine))) == expected, write.__name__
    assert facts_of(read(as_everest(machine).encode("utf-16"))) == expected
    for name, text in as_hwloc_files(machine).items():
        (tmp_path / name).write_text(text)
    assert facts_of(read_snapshot(tmp_path)) == expected


def fewer_or_the_same(less: dict[str, object], full: MachineFacts) -> bool:
    """Does `less` tell nothing else than `full`? Where CPUs differ, one alone may tell."""
    return all(
        value is None
        or value == full[name].value
        or (full[name].missing or "").startswith("CPUs differ")
        for name, value in less.items()
    )


_WRITERS: list[Callable[[Snapshot], str]] = [
    as_aida64,
    as_aida64_without_headings,
    as_everest,
    as_affinity_list,
    as_cpuid_tool,
    as_libcpuid_raw,
    as_libvirt,
    lambda machine: as_hwloc_files(machine)["pu0"],
    as_x86info,
    as_columns,
    as_cpu_z,
    as_cpucontrol,
    lambda machine: as_kcpuid(machine, indexed=INDEXED_LEAVES),
    lambda machine: as_xen_policy(machine, indexed=INDEXED_LEAVES),
]


@pytest.mark.parametrize(
    ("write", "dump"),
    covering(_WRITERS, ["amd-epyc-7742-64-core", "12th-gen-intel-core-i9-12900k", "via-c7"]),
)
def test_a_dump_cut_anywhere_is_refused_or_tells_less(
    write: Callable[[Snapshot], str], dump: str
) -> None:
    path = next(iter(sorted(DATA.glob(f"libcpuid/{dump}*"))), DUMPS[0])
    machine = Snapshot(cpus=read_snapshot(path).cpus[:1] * 2)
    text = write(machine)
    full = from_snapshot(read(text))
    read_whole = 0
    for end in range(1, len(text), 37 if len(text) > 4000 else 5):
        try:
            cut = read(text[:end])
        except EvidenceError:
            continue
        read_whole += 1
        assert fewer_or_the_same(facts_of(cut), full), end
    assert read_whole or write is as_libvirt

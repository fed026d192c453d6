# SPDX-License-Identifier: GPL-2.0-or-later
"""One machine, the same leaves, in every format; and what each format's oddities mean."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.registers import CpuidTable, Registers
from staleline.evidence.snapshot import CpuEvidence, CpuinfoEvidence, Snapshot
from tests.evidence.writers import as_aida64, as_cpuid_tool, as_libvirt, piped

DATA = Path(__file__).parents[1] / "data" / "cpuid"
ROME = DATA / "full" / "amd-epyc-7742-64-core-processor-dual.test.xz"

Leaves = dict[tuple[int, int], Registers]


def first_cpu(machine: Snapshot) -> Snapshot:
    return Snapshot(cpus=machine.cpus[:1])


@pytest.fixture(scope="module")
def rome() -> Snapshot:
    machine = read_snapshot(ROME)
    return Snapshot(cpus=machine.cpus[:3])


@pytest.mark.parametrize("written_as", [as_cpuid_tool, as_aida64, snapshot_text])
def test_every_format_of_whole_machines_gives_the_same_machine(
    rome: Snapshot, written_as: Callable[[Snapshot], str]
) -> None:
    assert parse_snapshot(written_as(rome), "dump") == rome


def test_libvirt_xml_gives_the_same_cpu(rome: Snapshot) -> None:
    assert parse_snapshot(as_libvirt(rome), "dump.xml") == first_cpu(rome)


def test_a_dump_may_be_compressed_utf16_or_have_dos_line_ends(
    rome: Snapshot, tmp_path: Path
) -> None:
    text = as_aida64(rome)
    for name, data in {
        "plain": text.encode(),
        "dos": text.replace("\n", "\r\n").encode(),
        "gz": gzip.compress(text.encode(), mtime=0),
        "xz": lzma.compress(text.encode()),
        "utf-16": text.encode("utf-16"),
        "utf-8-bom": text.encode("utf-8-sig"),
        "latin-1": b"# caf\xe9\n" + text.encode(),
    }.items():
        (tmp_path / name).write_bytes(data)
        assert read_snapshot(tmp_path / name) == rome, name


def test_a_dump_may_come_through_a_pipe(rome: Snapshot) -> None:
    with piped(as_cpuid_tool(rome).encode()) as pipe:
        assert read_snapshot(pipe) == rome


def test_the_whole_rome_server_is_read_and_its_cpus_differ_only_where_cpus_do() -> None:
    machine = read_snapshot(ROME)
    assert len(machine.cpus) == 256
    differing = {
        leaf
        for cpu in machine.cpus
        for (leaf, subleaf), registers in cpu.cpuid.leaves.items()
        if registers != machine.cpus[0].cpuid.recorded(leaf, subleaf)
    }
    # Initial APIC id, x2APIC topology, core and node id.
    assert differing <= {0x1, 0xB, 0x8000001E}


def test_aida64_without_sub_leaf_numbers_lists_sub_leaves_in_order() -> None:
    machine = read_snapshot(DATA / "libcpuid/amd-fx-6100-six-core-processor.test")
    cpuid = machine.cpus[0].cpuid
    assert [cpuid.recorded(0x8000001D, subleaf) for subleaf in (0, 3)] == [
        (0x00000121, 0x00C0003F, 0x0000003F, 0x00000000),
        (0x00014163, 0x0FC0003F, 0x000007FF, 0x00000001),
    ]


@pytest.mark.parametrize(
    "header",
    [
        "------[ CPUID Registers / Logical CPU #{} ]------",
        "------[ Logical CPU #{} ]------",
        "------[ CPUID Registers / Logical CPU #{} / P-core ]------",
        "------[ CPUID Registers / CPU#{} ]------",
        "CPU#00{} AffMask: 0x0000000000000000:0000000000000001",
    ],
)
def test_aida64_headers_of_several_versions_begin_a_cpu(header: str) -> None:
    row = "CPUID 00000000: 00000010-68747541-444D4163-69746E65"
    text = "\n".join((header.format(0), row, header.format(1), row))
    assert len(parse_snapshot(text, "dump").cpus) == 2


def test_libcpuid_raw_arrays_are_leaves_and_sub_leaves() -> None:
    text = (
        "version=0.6.0\n"
        "_________________ Logical CPU #0 _________________\n"
        "basic_cpuid[0]=0000000d 6f677948 6e65476e 656e6975\n"
        "ext_cpuid[0]=8000001f 00000000 00000000 00000000\n"
        "ext_cpuid[31]=0000000f 0000016f 0000000f 00000005\n"
        "intel_fn4[2]=00000001 00000002 00000003 00000004\n"
        "amd_fn8000001dh[3]=0001c163 03c0003f 00001fff 00000001\n"
    )
    leaves = parse_snapshot(text, "raw").cpus[0].cpuid.leaves
    assert set(leaves) == {
        (0, 0),
        (0x80000000, 0),
        (0x8000001F, 0),
        (4, 2),
        (0x8000001D, 3),
    }


def test_libvirt_msrs_are_kept() -> None:
    text = (
        "<cpudata arch='x86'><cpuid eax_in='0' ecx_in='0' eax='1' ebx='0' ecx='0' edx='0'/>"
        "<msr index='0x10a' edx='0x00000001' eax='0x0000000b'/></cpudata>"
    )
    assert parse_snapshot(text, "xml").cpus[0].msr == {0x10A: 0x1_0000_000B}


def test_libvirt_numbers_are_hexadecimal_or_decimal_with_or_without_zeros() -> None:
    row = "<cpuid eax_in='00' eax='0x07' ebx='010' ecx='8' edx='0X8'/>"
    text = f"<cpudata arch='x86'>{row.replace('0X8', '0x8')}</cpudata>"
    assert parse_snapshot(text, "xml").cpus[0].cpuid.recorded(0) == (7, 10, 8, 8)
    with pytest.raises(EvidenceError, match="field edx is '0X8'"):
        parse_snapshot(f"<cpudata arch='x86'>{row}</cpudata>", "xml")


def test_cpuinfo_gives_the_first_processor_and_no_registers() -> None:
    text = (
        "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 49\n"
        "model name\t: AMD EPYC 7742\nstepping\t: 0\nflags\t\t: fpu sme sev\n\n"
        "processor\t: 1\nvendor_id\t: AuthenticAMD\n"
    )
    machine = parse_snapshot(text, "cpuinfo")
    assert machine.cpus == ()
    assert machine.cpuinfo is not None
    assert (machine.cpuinfo.family, machine.cpuinfo.model, machine.cpuinfo.stepping) == (23, 49, 0)
    assert machine.cpuinfo.flags == {"fpu", "sme", "sev"}
    assert [note.what for note in machine.notes] == ["cpuid"]


def test_cpuinfo_that_begins_within_a_processor_has_the_vendor_of_the_next() -> None:
    cut = "cpu family\t: 23\nflags\t\t: fpu\n\nprocessor\t: 1\nvendor_id\t: AuthenticAMD\n"
    expected = CpuinfoEvidence("AuthenticAMD", family=23, flags=frozenset({"fpu"}))
    assert parse_snapshot(cut, "cpuinfo").cpuinfo == expected


def test_rows_before_any_header_are_of_cpu_0() -> None:
    text = "0x00000000 0x00: eax=0x00000000 ebx=0x00000001 ecx=0x00000002 edx=0x00000003"
    expected = CpuidTable({(0, 0): (0, 1, 2, 3)})
    assert parse_snapshot(text, "dump").cpus == (CpuEvidence(expected),)


@pytest.mark.parametrize(
    ("cut", "what"),
    [
        ("CPUID 00000004: FC004121-02C0003F-0000003F-000", "not a whole AIDA64 CPUID row"),
        ("CPUID 0000", "not a whole AIDA64 CPUID row"),
        ("CPUID 00000004: FC004121-02C0003F-0000003F-00000000 [SL 0", "row cut short"),
        ("CPUID 00000004: FC004121-02C0003F-0000003F-00000000 [S", "row cut short"),
    ],
)
def test_a_row_cut_short_is_left_out_at_the_end_and_refused_anywhere_else(
    cut: str, what: str
) -> None:
    whole = "CPUID 00000000: 00000010-68747541-444D4163-69746E65\n"
    machine = parse_snapshot(whole + cut, "dump")
    assert machine.cpus == parse_snapshot(whole, "dump").cpus
    assert [note.what for note in machine.notes] == ["last line"]
    # A copy ends only once: a row that is short before another one is no cut.
    with pytest.raises(EvidenceError, match=what):
        parse_snapshot(f"{whole}{cut}\n{whole}", "dump")
    with pytest.raises(EvidenceError):
        parse_snapshot(cut, "dump")

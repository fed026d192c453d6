# SPDX-License-Identifier: GPL-2.0-or-later
"""Input that is not evidence: one line that says what, where and what to do; no guess."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence import source
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.snapshot import CpuinfoEvidence, Note
from tests.evidence.writers import COMPRESS

ROW = "0x00000000 0x00: eax=0x00000001 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
SCHEMA = '"schema": "staleline/snapshot/1"'


def message_of(text: str | bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        parse_snapshot(text, "file")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def message_of_file(path: Path) -> str:
    with pytest.raises(EvidenceError) as caught:
        read_snapshot(path)
    return str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    assert message_of_file(path) == (
        f"{path}: cannot be read: No such file or directory; check the path"
    )


def test_a_directory(tmp_path: Path) -> None:
    assert message_of_file(tmp_path) == (
        f"{tmp_path}: is a directory that is not laid out as a host; give a directory or "
        "archive that holds proc/cpuinfo, a sosreport, or the dumps and snapshots themselves"
    )


def test_a_device() -> None:
    assert "/dev/zero: is neither a file nor a pipe of the shell" in message_of_file(
        Path("/dev/zero")
    )


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        ("/proc/kmsg", "give a file with the output of dmesg"),
        ("/dev/kmsg", "give a file with the output of dmesg"),
        ("/proc/self/pagemap", "give a copy"),
        ("/proc/self/environ", "give a copy"),
        ("/sys/kernel/tracing/trace_pipe", "give a copy"),
        ("/sys/kernel/debug/tracing/trace_pipe", "give a copy"),
    ],
)
def test_a_file_of_the_kernel_that_may_wait_or_be_used_up(path: str, instead: str) -> None:
    if not os.access(path, os.R_OK):
        pytest.skip(f"this host has no {path}, or does not let it be read")
    assert instead in message_of_file(Path(path))


def test_a_file_of_the_kernel_that_waits_behind_a_link(tmp_path: Path) -> None:
    link = tmp_path / "kernel.log"
    link.symlink_to("/proc/self/pagemap")
    assert "is made up by the kernel" in message_of_file(link)


def test_cpuinfo_of_this_host_is_read() -> None:
    assert read_snapshot(Path("/proc/cpuinfo")).cpuinfo is not None


def test_a_copy_of_a_file_that_waits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_text("[    0.000000] Hypervisor detected: KVM\n")
    assert read_snapshot(path).log is not None


def test_a_path_that_no_file_can_have() -> None:
    assert "is not a path" in message_of_file(Path("a\0b"))


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(ROW)
    path.chmod(0)
    user = os.geteuid()
    # Root reads everything, so root asks as nobody.
    os.seteuid(user or 65534)
    try:
        message = message_of_file(path)
    finally:
        os.seteuid(user)
    assert "cannot be read: Permission denied; make it readable" in message


@pytest.mark.parametrize("nothing", [b"", b"\n \t\n"])
def test_an_empty_file(nothing: bytes) -> None:
    assert message_of(nothing).startswith("file: is empty; ")


@pytest.mark.parametrize("hole", [b"\0", b"\0" * 4000])
def test_zeros_between_pieces_of_a_log_make_it_no_binary(hole: bytes) -> None:
    """What a file holds whose end was not written before the machine went down."""
    text = b"[    1.0] tdx: Guest detected\n" + hole + b"[    0.1] The Jailhouse is opening.\n"
    log = parse_snapshot(text, "file").log
    assert log is not None
    assert "The Jailhouse is opening." in log.lines


def test_a_binary_names_the_offset() -> None:
    assert message_of(b"\x7fELF\x02\x01\x01\0").startswith("file+0x7: is binary, not a text dump")


def test_a_foreign_text_names_the_formats() -> None:
    message = message_of("The quick brown fox\njumps: over\n")
    assert message.startswith("file: is of no known format; give cpuid -r output, an AIDA64")


def test_a_file_beyond_the_cap(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(source.MAX_BYTES + 1)
    assert "is larger than 16 MiB" in message_of_file(path)


@pytest.mark.parametrize("compress", [COMPRESS[suffix] for suffix in COMPRESS if suffix])
def test_a_file_beyond_the_cap_once_decompressed(compress: object, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    assert callable(compress)
    path.write_bytes(compress(b" " * (source.MAX_BYTES + 1)))
    assert path.stat().st_size < 1 << 20
    assert "decompressed, is larger than 16 MiB" in message_of_file(path)


@pytest.mark.parametrize("compress", [COMPRESS[suffix] for suffix in COMPRESS if suffix])
def test_compressed_data_cut_short_or_damaged(compress: object, tmp_path: Path) -> None:
    assert callable(compress)
    path = tmp_path / "dump"
    data = bytes(compress(ROW.encode() * 500))
    path.write_bytes(data[:-10])
    assert "cut short" in message_of_file(path)
    path.write_bytes(data[:6] + bytes(12) + data[18:])
    assert "damaged " in message_of_file(path)


def test_text_that_contradicts_its_byte_order_mark() -> None:
    assert message_of(b"\xff\xfe\x41").startswith("file+0x2: begins as UTF-16 text and is not")


def test_a_dump_that_ends_inside_a_cpu_is_partial_evidence() -> None:
    extended = ROW.replace("0x00000000 0x00", "0x80000000 0x00")
    whole = f"CPU 0:\n{ROW}{extended}"
    for cut in (f"CPU 1:\n{ROW}", "CPU 1:\n"):
        cpus = parse_snapshot(whole + cut, "file").cpus
        assert cpus[0] == parse_snapshot(whole, "file").cpus[0]
        assert all(set(cpu.cpuid.leaves) == {(0, 0)} for cpu in cpus[1:])


def test_two_dumps_in_one_file() -> None:
    assert message_of(f"CPU 0:\n{ROW}CPU 0:\n{ROW}") == (
        "file:3: CPU 0 begins a second time; give one file per machine"
    )


def test_a_leaf_that_is_recorded_twice_with_different_values() -> None:
    message = message_of(ROW + ROW.replace("eax=0x00000001", "eax=0x00000002"))
    assert message.startswith("file:2: CPU 0 leaf 0x00000000 sub-leaf 0 contradicts line 1")


class TestXml:
    def test_no_document_type_declaration_is_taken(self) -> None:
        bomb = (
            '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><cpudata arch="x86">&c;</cpudata>'
        )
        assert message_of(bomb) == "file:1: has a document type declaration; remove it"

    def test_xml_cut_short(self) -> None:
        assert message_of("<cpudata arch='x86'>\n<cpuid eax_in='0'").startswith(
            "file:2: is not well-formed XML: "
        )

    def test_xml_of_something_else(self) -> None:
        assert message_of("<domain/>").startswith(
            "file:1: is XML of <domain>, not libvirt's <cpudata>"
        )

    def test_cpu_data_of_another_architecture(self) -> None:
        assert message_of("<cpudata arch='ppc'/>").startswith("file:1: field arch is 'ppc'")

    def test_cpu_data_without_cpus(self) -> None:
        assert message_of("<cpudata arch='x86'/>").startswith("file: holds no CPUID leaves")

    @pytest.mark.parametrize("value", ["0x100000000", "-1", "eax", ""])
    def test_a_register_that_is_not_32_bits(self, value: str) -> None:
        row = f"<cpuid eax_in='0' eax='{value}' ebx='0' ecx='0' edx='0'/>"
        message = message_of(f"<cpudata arch='x86'>\n{row}</cpudata>")
        assert message.startswith(f"file:2: field eax is {value!r}, not an unsigned 32-bit number")


class TestCpuinfo:
    def test_cpuinfo_of_another_architecture(self) -> None:
        assert message_of("processor\t: 0\nBogoMIPS\t: 243.75\n").startswith(
            "file: field vendor_id is missing"
        )

    def test_flags_cut_short(self) -> None:
        """Partial evidence is no error: without its last line the same text was read.

        "sme" could be the beginning of "smep", so the line in which the text ends tells nothing.
        """
        text = (
            "processor: 0\nvendor_id: AuthenticAMD\ncpu family: 25\nmodel: 1\nstepping: 1\n"
            "flags: fpu sme"
        )
        machine = parse_snapshot(text, "file")
        assert machine.cpuinfo == CpuinfoEvidence("AuthenticAMD", 25, 1, 1)
        assert machine.notes[1:] == (
            Note("last line", "the text ends within 'flags', which was left out"),
        )

    @pytest.mark.parametrize("name", ["vendor_id", "cpu family", "model", "stepping", "flags"])
    def test_a_cut_anywhere_tells_less(self, name: str) -> None:
        text = (
            "processor: 0\nvendor_id: AuthenticAMD\ncpu family: 25\nmodel: 17\nstepping: 1\n"
            "flags: fpu sme smep\n\n"
        )
        for cut in range(text.index(name) + 1, len(text) + 1):
            if "\nvendor_id: AuthenticAMD\n" not in text[:cut]:
                continue
            cpuinfo = parse_snapshot(text[:cut], "file").cpuinfo
            assert cpuinfo is not None
            assert cpuinfo.family in (None, 25)
            assert cpuinfo.model in (None, 17)
            assert cpuinfo.flags in (set(), {"fpu", "sme", "smep"})

    def test_a_vendor_that_is_cut_is_no_second_one(self) -> None:
        text = "processor: 0\nvendor_id: AuthenticAMD\nflags: fpu\n\nprocessor: 1\nvendor_id: Auth"
        assert parse_snapshot(text, "file").cpuinfo is not None

    def test_two_vendors(self) -> None:
        text = "processor: 0\nvendor_id: GenuineIntel\n\nprocessor: 1\nvendor_id: AuthenticAMD\n"
        assert message_of(text).startswith(
            "file: field vendor_id is 'AuthenticAMD' and 'GenuineIntel'"
        )

    def test_a_family_that_is_no_number(self) -> None:
        text = "processor: 0\nvendor_id: A\ncpu family: x\nmodel: 1\nflags: fpu\n"
        assert message_of(text).startswith("file: field cpu family is 'x', not a number")


class TestSnapshot:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('{"schema": ', "file:1:12: is not JSON: Expecting value"),
            ("{" + SCHEMA + "}", "file: field cpus is missing"),
            ('{"schema": "staleline/snapshot/2", "cpus": []}', "file: field schema is"),
            ('{"cpus": []}', "file: field schema is None, not 'staleline/snapshot/1'"),
            ("{" + SCHEMA + ', "cpus": [7]}', "file: field cpus[0] is not an object"),
            ("{" + SCHEMA + ', "cpus": [], "cpu": 1}', "file: field cpu is not known here"),
            (
                "{" + SCHEMA + ', "cpus": [], "state": {"sme_activ": true}}',
                "file: field state.sme_activ is not known here",
            ),
            (
                "{" + SCHEMA + ', "cpus": [], "state": {"sme_active": 1}}',
                "file: field state.sme_active is not true, false or null",
            ),
            (
                "{" + SCHEMA + ', "cpus": [], "state": {"kexec_loaded": true}}',
                "file: field state.kexec_loaded is not a number",
            ),
            (
                "{" + SCHEMA + ', "cpus": [], "state": {"offline_cpus": [1, -1]}}',
                "file: field state.offline_cpus[1] is not a number from 0 to 2^31",
            ),
            (
                "{" + SCHEMA + ', "cpus": [{"cpuid": {"0x0:0": ["0x1"]}}]}',
                "file: field cpus[0].cpuid.0x0:0 holds 1 registers, not EAX, EBX, ECX, EDX",
            ),
            (
                "{" + SCHEMA + ', "cpus": [{"cpuid": {"0x0:0": ["1", "0x0", "0x0", "0x0"]}}]}',
                "file: field cpus[0].cpuid.0x0:0[0] is not a hexadecimal number of at most 32",
            ),
            (
                "{" + SCHEMA + ', "cpus": [{"msr": {"0xc0010010": "0x10000000000000000"}}]}',
                "file: field cpus[0].msr.0xc0010010 is not a hexadecimal number of at most 64",
            ),
            (
                "{" + SCHEMA + ', "cpus": [{"msr": {"SYSCFG": "0x1"}}]}',
                "file: field cpus[0].msr.SYSCFG is not a hexadecimal number of at most 32",
            ),
            (
                "{" + SCHEMA + ', "cpus": [{"msr": {"0x87": "0x1", "0x087": "0x2"}}]}',
                "file: field cpus[0].msr.0x087 names an MSR that another field names too",
            ),
            (
                "{" + SCHEMA + ', "cpus": [{"msr": {"0x87": "0x1"}, "msr_faults": ["0x87"]}]}',
                "file: field cpus[0].msr_faults names 0x87, which has a value in field msr",
            ),
            (
                "{" + SCHEMA + ', "cpus": [], "cpus": []}',
                "file: is not a snapshot: has a field 'cpus' twice in one object",
            ),
            (
                "{" + SCHEMA + ', "cpus": [], "host": "\\ud800"}',
                "file: field host holds half a surrogate pair",
            ),
            ("{" + SCHEMA + ', "cpus": [], "host": NaN}', "file: is not a snapshot: has a number"),
            ("{" + SCHEMA + ', "cpus": [], "notes": [{}]}', "file: field notes[0].what is missing"),
            (
                "{" + SCHEMA + ', "cpus": [{"like": 0}]}',
                "file: field cpus[0].like is 0, not the index of an earlier CPU",
            ),
            (
                "{" + SCHEMA + ', "cpus": [{}, {"like": 2}, {}]}',
                "file: field cpus[1].like is 2, not the index of an earlier CPU",
            ),
            (
                "{" + SCHEMA + ', "cpus": [], "caches": [{"level": 1, "type": "Data"}]}',
                "file: field caches[0].bytes is missing",
            ),
            (
                "{" + SCHEMA + ', "cpus": [], "modules": {"kvm_amd": {"sev": 1}}}',
                "file: field modules.kvm_amd.sev is not a string",
            ),
        ],
    )
    def test_the_field_is_named(self, text: str, expected: str) -> None:
        assert message_of(text).startswith(expected)

    def test_many_cpus_like_one_with_many_leaves(self) -> None:
        leaves = {f"{leaf:#x}:0": ["0x1", "0x2", "0x3", "0x4"] for leaf in range(20_000)}
        cpus = [{"cpuid": leaves}, *({"like": 0} for _ in range(200))]
        text = "{" + SCHEMA + ', "cpus": ' + json.dumps(cpus) + "}"
        assert "makes more than 2097152 leaves, more than any machine" in message_of(text)

    def test_deep_nesting(self) -> None:
        assert "nests too deeply" in message_of('{"schema":' + "[" * 200_000)

    def test_a_number_of_many_digits(self) -> None:
        assert message_of('{"schema": ' + "9" * 10_000 + "}").startswith("file: ")

    def test_two_spellings_of_one_leaf(self) -> None:
        row = ["0x1"] * 4
        cpuid = json.dumps({"0x4:0": row, "0x00000004:0x0": row})
        assert "names a leaf and sub-leaf that another field names too" in message_of(
            "{" + SCHEMA + ', "cpus": [{"cpuid": ' + cpuid + "}]}"
        )

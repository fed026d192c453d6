# SPDX-License-Identifier: GPL-2.0-or-later
"""Damaged dumps: a snapshot or an `EvidenceError`, never another exception."""

from __future__ import annotations

import gzip
import json
import lzma
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from staleline.errors import EvidenceError
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from staleline.evidence.snapshot import CpuinfoEvidence, Snapshot
from staleline.facts import from_snapshot
from tests.evidence.writers import as_lscpu, as_nested_lscpu_json, as_tar

DATA = Path(__file__).parents[1] / "data" / "cpuid"

_CPUINFO = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 49\n"
    "stepping\t: 0\nflags\t\t: fpu sme sev\n\nprocessor\t: 1\nvendor_id\t: AuthenticAMD\n"
)
_XML = (
    "<!-- a CPU -->\n<cpudata arch='x86'>\n"
    "<cpuid eax_in='0x00000000' ecx_in='0x00' eax='0x0000000d' ebx='0x756e6547'"
    " ecx='0x6c65746e' edx='0x49656e69'/>\n<msr index='0xcf' edx='0x0' eax='0x60'/>\n</cpudata>\n"
)
_DMESG = (
    "[    0.000000] Linux version 6.12.107+deb13-amd64 (x) #1 SMP\n"
    "[    0.000000] Command line: BOOT_IMAGE=/vmlinuz mem_encrypt=on\n"
    "[    0.100000] Memory Encryption Features active: AMD SME\n"
    "[    1.000000] Run /init as init process\n"
    "[    9.000000] virt/tdx: module initialized\n"
)
_TREE = {
    "top/proc/cpuinfo": _CPUINFO,
    "top/sos_commands/kernel/uname_-a": "Linux node17 6.12.107 #1\n",
    "top/sos_commands/kernel/dmesg": _DMESG.replace("+deb13-amd64", ""),
    "top/sys/devices/system/cpu/online": "0-1\n",
}


def _seeds() -> list[bytes]:
    dumps = [
        DATA / "libcpuid/amd-epyc-9124-16-core-processor.test",
        DATA / "libcpuid/intel-core2-cpu-6420.test",
        DATA / "libcpuid/intel-core2-quad-cpu-q9300.test",
        DATA / "registers/hygon-c86-3250.cpuid",
    ]
    machine = read_snapshot(dumps[0])
    rome = CpuinfoEvidence("AuthenticAMD", 23, 49, 0, frozenset({"fpu", "sme", "sev"}))
    texts = [
        *(snapshot_text(machine), snapshot_text(Snapshot(machine.cpus * 3)), _CPUINFO, _XML),
        *(as_lscpu(rome, 4, "4"), as_nested_lscpu_json(rome, 4, "4"), _DMESG),
    ]
    return [path.read_bytes() for path in dumps] + [text.encode() for text in texts]


_Edit = tuple[int, int, bytes]
#: What means something to one reader or another, put where it does not belong.
_FRAGMENTS = st.sampled_from(
    [
        *(b"\n", b"\r", b"\x0c", b"=", b"-1", b"0", b"99999999999", b"0x", b"null", b"true", b'"'),
        *(b"[", b"[SL ", b"CPU 0:", b"CPUID ", b"ext_cpuid[", b"<", b"&a;", b"<!DOCTYPE a>"),
        *(
            b"{",
            b'"like": 0,',
            b'"like": 7',
            b"\x1f\x8b",
            b"\xfd7zXZ\0",
            b"\xff\xfe",
            "\u2028\u0663".encode(),
        ),
    ]
)
_EDITS = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.integers(0, 40), _FRAGMENTS | st.binary(max_size=8)),
    max_size=6,
)


def _edited(data: bytes, edits: list[_Edit]) -> bytes:
    for position, removed, inserted in edits:
        start = position % (len(data) + 1)
        data = data[:start] + inserted + data[start + removed :]
    return data


def _read(data: bytes) -> None:
    outcome = _outcome(data)
    if isinstance(outcome, EvidenceError):
        assert str(outcome).startswith("dump")
        assert "\n" not in str(outcome)
    else:
        # What was read can be reasoned about, and written without loss.
        assert len(list(from_snapshot(outcome))) > 50
        assert parse_snapshot(snapshot_text(outcome), "dump") == outcome


def _outcome(data: bytes) -> Snapshot | EvidenceError:
    try:
        return parse_snapshot(data, "dump")
    except EvidenceError as error:
        return error


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(_seeds()), _EDITS)
def test_edited_dumps(data: bytes, edits: list[_Edit]) -> None:
    _read(_edited(data, edits))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(_seeds()), st.integers(0, 1 << 16))
def test_truncated_dumps(data: bytes, length: int) -> None:
    _read(data[: length % len(data)])


def _is_told_or_refused_in_a_line(file: str) -> None:
    message = ""
    try:
        assert len(list(from_snapshot(read_snapshot(file)))) > 50
    except EvidenceError as error:
        message = str(error)
    assert "\n" not in message


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([gzip.compress, lzma.compress]), st.sampled_from(_seeds()), _EDITS)
def test_edited_compressed_dumps(
    compress: Callable[[bytes], bytes], data: bytes, edits: list[_Edit]
) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(_edited(compress(data), edits))
        file.flush()
        _is_told_or_refused_in_a_line(file.name)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([bytes, gzip.compress]), _EDITS, st.integers(0, 1 << 16))
def test_edited_archives(
    compress: Callable[[bytes], bytes], edits: list[_Edit], length: int
) -> None:
    data = compress(as_tar(_TREE, {"top/proc/cmdline": "../proc/cpuinfo"}))
    with tempfile.NamedTemporaryFile() as file:
        file.write(_edited(data, edits)[: length or None])
        file.flush()
        _is_told_or_refused_in_a_line(file.name)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
@example(b"{" * 100_000)
@example(b"\xfe\xff\xd8\x00")
@example(b"<\x00")
@example("<é/>".encode("latin-1"))
def test_arbitrary_bytes(data: bytes) -> None:
    _read(data)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "schema",
                        "cpus",
                        "cpuid",
                        "msr",
                        "state",
                        "kernel",
                        "cpuinfo",
                        "flags",
                        "0x0:0",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_arbitrary_json(document: object) -> None:
    wrapped = {"schema": "staleline/snapshot/1", "cpus": [], "state": document}
    for text in (
        json.dumps(document),
        json.dumps(wrapped),
        json.dumps({**wrapped, "cpus": [document]}),
    ):
        _read(text.encode())

# SPDX-License-Identifier: GPL-2.0-or-later
"""One log in several excerpts: what each holds counts, in whatever order and dress they come."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.contradiction import ContradictionError
from staleline.evidence.detect import parse_snapshot, read_snapshot
from staleline.evidence.hosts.merge import merged
from staleline.evidence.registers import CpuidTable
from staleline.evidence.snapshot import CpuEvidence, KernelEvidence, LogEvidence, Snapshot
from tests.evidence.writers import as_tar

_JAILHOUSE = "[  520.3] The Jailhouse is opening.\n"
_SMP = "[    0.5] smp: Brought up 2 nodes, 256 CPUs\n"
_VERSION = "[    0.0] Linux version 6.5.0 (a@b) (gcc) #1 SMP\n"
_LSCPU = "Architecture: x86_64\nVendor ID: AuthenticAMD\n"


def _lines(text: str) -> set[str]:
    log = parse_snapshot(text, "file").log
    assert log is not None
    assert not log.complete
    return set(log.lines)


_BOTH = {"The Jailhouse is opening.", "smp: Brought up 2 nodes, 256 CPUs"}


@pytest.mark.parametrize("order", list(permutations((_JAILHOUSE, _SMP, _LSCPU, _VERSION))))
def test_commands_at_one_prompt_are_of_one_boot(order: tuple[str, ...]) -> None:
    assert _lines("".join(f"$ dmesg | grep x\n{shown}" for shown in order)) == _BOTH


@pytest.mark.parametrize("between", ["\n", "\nlater:\n", "```\n\n```\n", "\n---\n"])
@pytest.mark.parametrize("order", list(permutations((_JAILHOUSE, _SMP))))
def test_excerpts_apart_may_go_back_in_time(order: tuple[str, ...], between: str) -> None:
    assert _lines(between.join(order)) == _BOTH


def test_excerpts_in_fences_may_begin_again() -> None:
    assert _lines(f"```\n{_JAILHOUSE}```\n\n```\n{_VERSION}{_SMP}```\n") == _BOTH


@pytest.mark.parametrize("between", ["", "\n", "-- Boot 0123456789abcdef0123456789abcdef --\n"])
def test_a_boot_behind_another_is_the_only_one(between: str) -> None:
    assert _lines(_JAILHOUSE + between + _VERSION + _SMP) == _BOTH - {"The Jailhouse is opening."}


def test_a_log_needs_no_heading_behind_another_output() -> None:
    assert _lines(f"{_LSCPU}and then the log\n{_JAILHOUSE}") == {"The Jailhouse is opening."}


def test_a_document_needs_no_heading_behind_another_output() -> None:
    entry = '{"_TRANSPORT": "kernel", "MESSAGE": "The Jailhouse is opening.", "_BOOT_ID": "0"}\n'
    assert _lines(f"{_LSCPU}and then the journal\n{entry}") == {"The Jailhouse is opening."}


def test_another_output_needs_no_heading_behind_a_log() -> None:
    machine = parse_snapshot(f"{_JAILHOUSE}this is lscpu\n{_LSCPU}", "file")
    assert machine.cpuinfo is not None
    assert machine.cpuinfo.vendor == "AuthenticAMD"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_every_file_of_an_archive_counts_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    archive = tmp_path / "logs.tar"
    files: dict[str, str | bytes] = {
        "a.log": _SMP,
        "b.log": _JAILHOUSE.encode(encoding),
        "c.bin": b"\x01\x02\0\3",
    }
    archive.write_bytes(as_tar(files))
    log = read_snapshot(archive).log
    assert log is not None
    assert set(log.lines) == _BOTH


def _logged(*lines: str, complete: bool = False) -> Snapshot:
    return Snapshot(cpus=(), log=LogEvidence(lines, complete=complete))


def test_two_sources_of_a_log_add_up() -> None:
    assert merged([_logged("a"), _logged("b", "a")], "").log == LogEvidence(("a", "b"), False)


@pytest.mark.parametrize(("other", "whole"), [((), True), (("a",), True), (("b",), False)])
def test_a_whole_log_is_whole_only_if_nothing_is_added(other: tuple[str, ...], whole: bool) -> None:
    for sources in permutations((_logged("a", complete=True), _logged(*other))):
        log = merged(sources, "").log
        assert log is not None
        assert log.complete is whole


def test_excerpts_of_two_boots_that_exclude_each_other_are_told() -> None:
    guest = "[    0.1] tdx: Guest detected\n"
    host = "[    0.0] Memory Encryption Features active: AMD SME\n"
    with pytest.raises((ContradictionError, EvidenceError), match="log-against-log"):
        parse_snapshot(f"$ dmesg\n{guest}$ dmesg\n{host}", "file")


def _numbered(**registers: Mapping[int, int]) -> Snapshot:
    told = ((int(name[3:]), msr) for name, msr in registers.items())
    return Snapshot(tuple(CpuEvidence(CpuidTable({}), msr, number=cpu) for cpu, msr in told))


def test_cpus_with_numbers_are_told_by_them() -> None:
    """Two halves of a machine were joined place by place, so that CPUs 2 and 3 were none."""
    halves = _numbered(cpu0={1: 7}, cpu1={1: 8}), _numbered(cpu2={1: 9}, cpu1={2: 4})
    for sources in permutations(halves):
        cpus = merged(sources, "").cpus
        assert [(cpu.number, cpu.msr) for cpu in cpus] == [
            (0, {1: 7}),
            (1, {1: 8, 2: 4}),
            (2, {1: 9}),
        ]


_WHOLE = "reboot=force BOOT_IMAGE=/vmlinuz mem_encrypt=on"
_OF_LOADER = "BOOT_IMAGE=/vmlinuz mem_encrypt=on"


@pytest.mark.parametrize("lines", list(permutations((_WHOLE, _OF_LOADER))))
def test_the_longer_command_line_is_the_whole_one(lines: tuple[str, str]) -> None:
    sources = [Snapshot(cpus=(), kernel=KernelEvidence(cmdline=line)) for line in lines]
    assert merged(sources, "").kernel.cmdline == _WHOLE


@pytest.mark.parametrize("layout", ["[..] {}", "[...] {}", "[    x.xxxxxx] {}", "[ *.******] {}"])
def test_a_time_may_be_left_out(layout: str) -> None:
    said = "virt/tdx: BIOS enabled: private KeyID range [16, 64)"
    assert _lines(layout.format(said) + "\n") == {said}


@pytest.mark.parametrize(
    "dress",
    [
        *(
            "    {}",
            "- {}",
            "* {}",
            "12. {}",
            "`{}`",
            "**{}**",
            "- `{}`",
            "<p>{}</p>",
            "<li>{}<br>",
        ),
        *("512:{}", "   512\t{}", "{}   ", "{}#012", "12:10:11.123456 {}"),
    ],
)
def test_a_line_of_a_log_may_be_dressed_alone(dress: str) -> None:
    """What a writer puts around a line: nothing of it is the kernel's."""
    said = dress.format(_JAILHOUSE.strip())
    assert _lines(f"{said}\n") == {"The Jailhouse is opening."}
    assert _lines(f"{_LSCPU}\n{said}\n") == {"The Jailhouse is opening."}


SHOWN = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nflags\t\t: fpu sme\n"


@pytest.mark.parametrize(
    "texts",
    [
        "$ lscpu | grep Arch\nArchitecture: x86_64\n$ cat /proc/cpuinfo\n{}\n$ uname -r\n6.1.0\n",
        "$ cat /proc/cpuinfo\n{}\n$ lscpu | grep Arch\nArchitecture: x86_64\n$ uname -r\n6.1.0\n",
        "$ lscpu | grep Flags\nFlags: fpu svm\n$ cat /proc/cpuinfo\n{}\n$ uname -r\n6.1.0\n",
    ],
)
def test_an_excerpt_hides_nothing_of_what_is_shown_whole(texts: str) -> None:
    """One row of lscpu before /proc/cpuinfo left the whole file out."""
    machine = parse_snapshot(texts.format(SHOWN), "file")
    assert machine.cpuinfo is not None
    assert (machine.cpuinfo.vendor, machine.cpuinfo.family) == ("AuthenticAMD", 23)
    assert machine.cpuinfo.flags >= {"fpu", "sme"}

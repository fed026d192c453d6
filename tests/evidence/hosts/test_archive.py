# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives of loose files: what one of them says counts, also where it is compressed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest

from staleline.errors import EvidenceError
from staleline.evidence.detect import read_snapshot
from staleline.facts import from_snapshot

ROME = (
    Path(__file__).parents[2] / "data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
).read_bytes()
#: What the driver of the root cell prints (siemens/jailhouse driver/main.c jailhouse_cmd_enable()).
JAILHOUSE = b"[   52.100000] The Jailhouse is opening.\n"


def archive(path: Path, files: Mapping[str, bytes], mode: Literal["w", "w:gz"] = "w") -> Path:
    with path.open("wb") as file, tarfile.open(fileobj=file, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_member_counts_however_it_is_compressed(
    tmp_path: Path, packed: Callable[[bytes], bytes]
) -> None:
    file = archive(tmp_path / "both.tar", {"rome.txt": ROME, "b.log": packed(JAILHOUSE)})
    assert from_snapshot(read_snapshot(file))["jumped_by"].value == "jailhouse"


def test_an_archive_within_an_archive_is_not_left_out_unseen(tmp_path: Path) -> None:
    inner = archive(tmp_path / "inner.tar.gz", {"b.log": JAILHOUSE}, "w:gz").read_bytes()
    file = archive(tmp_path / "both.tar", {"rome.txt": ROME, "more.tgz": inner})
    with pytest.raises(EvidenceError, match=r"more\.tgz: is an archive within an archive"):
        read_snapshot(file)


def test_a_member_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    file = archive(tmp_path / "bomb.tar", {"rome.txt": ROME, "zeros.gz": bomb})
    with pytest.raises(EvidenceError, match=r"zeros\.gz"):
        read_snapshot(file)


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    cut = gzip.compress(JAILHOUSE)[:-9]
    file = archive(tmp_path / "cut.tar", {"rome.txt": ROME, "b.log.gz": cut})
    with pytest.raises(EvidenceError, match=r"b\.log\.gz"):
        read_snapshot(file)


@pytest.mark.parametrize("before", [1, 40, 200])
def test_no_member_is_left_out_for_how_many_there_are(tmp_path: Path, before: int) -> None:
    """A supportconfig has about a hundred texts; what came behind the first 32 was not read."""
    others = {f"a{number:03}.txt": b"nothing that is known\n" for number in range(before)}
    file = archive(tmp_path / "many.tar", {"rome.txt": ROME, **others, "z.log": JAILHOUSE})
    assert from_snapshot(read_snapshot(file))["jumped_by"].value == "jailhouse"


def test_no_member_is_left_out_for_how_large_it_is(tmp_path: Path) -> None:
    """A log of more than 4 MiB was not read."""
    log = JAILHOUSE + (b"[   60.000000] " + b"else " * 9000 + b"\n") * 100
    file = archive(tmp_path / "large.tar", {"rome.txt": ROME, "z.log": log})
    assert from_snapshot(read_snapshot(file))["jumped_by"].value == "jailhouse"


def test_more_than_is_read_is_refused_and_named(tmp_path: Path) -> None:
    many = {f"{number}.txt": b"x\n" for number in range(1025)}
    for files, expected in (
        ({"z.log": JAILHOUSE * (1 << 19)}, "z.log is a text of more than 16 MiB"),
        (many, "more than 1024 files lie beside"),
        (dict.fromkeys("abc", b"x\n" * (7 << 20)), "c is (?:one of )?more than"),
    ):
        file = archive(tmp_path / "more.tar", {"rome.txt": ROME, **files})
        with pytest.raises(EvidenceError, match=expected):
            read_snapshot(file)


@pytest.mark.parametrize("head", [b"\x7fELF\x02\x01\x01\0", b"KDUMP   \0\0", b"\x28\xb5\x2f\xfd"])
def test_what_is_no_text_may_be_of_any_size(tmp_path: Path, head: bytes) -> None:
    """The memory of a crash, a root file system: no evidence by any format."""
    file = archive(tmp_path / "core.tar", {"rome.txt": ROME, "vmcore": head + bytes(17 << 20)})
    assert read_snapshot(file).cpus


def test_an_archive_behind_another_is_not_left_out_unseen(tmp_path: Path) -> None:
    """As cat puts them; zeros alone fill an archive up, however many."""
    first = archive(tmp_path / "a.tar", {"rome.txt": ROME}).read_bytes()
    second = archive(tmp_path / "b.tar", {"b.log": JAILHOUSE}).read_bytes()
    both = tmp_path / "both.tar"
    both.write_bytes(first + second)
    with pytest.raises(EvidenceError, match=r"both\.tar: tar archive with more behind its end"):
        read_snapshot(both)
    both.write_bytes(first + bytes(3 << 20))
    assert read_snapshot(both).cpus


@pytest.mark.parametrize("name", ["var/log/dmesg", "backup/var/log/kern.log", "var/log/syslog"])
def test_a_host_s_log_counts_where_its_tree_is_not_there(tmp_path: Path, name: str) -> None:
    """As /var/log/dmesg beside a dump; what lay in a host's directories was not read."""
    file = archive(tmp_path / "it.tar", {"rome.txt": ROME, name: JAILHOUSE})
    assert from_snapshot(read_snapshot(file))["jumped_by"].value == "jailhouse"
    large = JAILHOUSE + b"x" * (5 << 20)
    file = archive(tmp_path / "large.tar", {"rome.txt": ROME, name: large})
    with pytest.raises(EvidenceError, match=f"holds {name}, and more of logs than is read"):
        read_snapshot(file)
    tree = {"proc/cmdline": b"ro\n", "proc/cpuinfo": b"vendor_id\t: AuthenticAMD\nflags\t: sme\n"}
    for log in (JAILHOUSE, large):
        machine = read_snapshot(archive(tmp_path / "host.tar", {**tree, name: log}))
        assert (machine.kernel.cmdline, machine.log) == ("ro", None)

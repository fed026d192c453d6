# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staleline.errors import KernelImageError
from staleline.kernel.image.assembly import load_image
from staleline.simulation.medium import (
    BootImage,
    MemoryImage,
    Probe,
    boot_image,
    boot_memory,
    initramfs,
)
from tests.conftest import RealKernel

KERNEL = BootImage(b"", bytes(0x260), MemoryImage(16 << 20, bytes(1 << 20)), 16 << 20)
NAMES = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}", fullmatch=True)


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content by name, read as linux's Documentation describes the format."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        assert archive[at : at + 6] == b"070701"
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        at = -(-(at + 110 + name_size) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, archive[at : at + size])
        at = -(-(at + size) // 4) * 4


class TestInitramfs:
    def test_programs_can_be_executed_and_files_cannot(self) -> None:
        found = entries(initramfs({"bin/tool": b"#!/bin/sh\n"}, {"etc/deep/file": b"x" * 4097}))
        assert {name: mode for name, (mode, _) in found.items()} == {
            "bin": 0o040755,
            "dev": 0o040755,
            "dev/console": 0o020600,
            "etc": 0o040755,
            "etc/deep": 0o040755,
            "bin/tool": 0o100755,
            "etc/deep/file": 0o100644,
        }

    @given(st.dictionaries(NAMES, st.binary(max_size=70), max_size=5))
    def test_has_every_file_after_its_folders(self, files: dict[str, bytes]) -> None:
        folders = {str(parent) for name in files for parent in Path(name).parents} - {"."} | {"dev"}
        clean = {name: content for name, content in files.items() if name not in folders}
        listed = list(entries(initramfs({}, clean)).items())
        names = [name for name, _ in listed]
        assert {name: entry[1] for name, entry in listed if name in clean} == clean
        for name in names:
            parents = [str(parent) for parent in Path(name).parents if str(parent) != "."]
            assert all(names.index(parent) < names.index(name) for parent in parents)


class TestBootMemory:
    def test_kernel_lies_where_it_is_linked(self, real_kernels: dict[str, RealKernel]) -> None:
        path = real_kernels["6.12"].path
        image, elf = boot_image(path), load_image(path)
        text = elf.section_bytes(".text")[:64] if ".text" in elf.sections else None
        assert image.unpacked.address == 16 << 20  # CONFIG_PHYSICAL_START
        start = elf.segments[0]
        assert image.unpacked.content.startswith(bytes(start.data[:4096]))
        assert text is None or text in image.unpacked.content

    @pytest.mark.parametrize(
        ("line", "encrypts"),
        [
            ("quiet", False),
            ("mem_encrypt=on", True),
            ("mem_encrypt=on mem_encrypt=off", False),
            ("mem_encrypt=off quiet mem_encrypt=on", True),
        ],
    )
    def test_says_whether_to_encrypt(self, line: str, encrypts: bool) -> None:
        page, _, _ = boot_memory(KERNEL, b"archive", line, 128)
        assert bool(page.content[0x1236] & 1 << 7) is encrypts

    def test_page_tells_where_everything_is(self) -> None:
        page, kernel, archive = boot_memory(KERNEL, b"archive", "quiet", 128)
        assert (page.address, kernel) == (1 << 20, KERNEL.unpacked)
        assert struct.unpack_from("<Q", page.content) == (KERNEL.entry,)
        zero_page = page.content[0x1000:0x2000]
        assert struct.unpack_from("<II", zero_page, 0x218) == (archive.address, 7)
        (line,) = struct.unpack_from("<I", zero_page, 0x228)
        assert page.content[line - page.address :].startswith(b"quiet\0")
        areas = [struct.unpack_from("<QQI", zero_page, 0x2D0 + 20 * n) for n in range(6)]
        assert zero_page[0x1E8] == len(areas)
        assert any(
            start <= archive.address < start + size for start, size, kind in areas if kind == 1
        )

    def test_tables_map_four_gigabytes_where_they_are(self) -> None:
        page, _, _ = boot_memory(KERNEL, b"", "", 128)
        for address in (0, 0x7C00, 16 << 20, (4 << 30) - 1):
            assert translated(page, address) == address

    def test_what_has_no_room_says_so(self) -> None:
        with pytest.raises(KernelImageError, match="give the machine more memory"):
            boot_memory(KERNEL, bytes(100 << 20), "", 128)


def translated(page: MemoryImage, address: int) -> int:
    """As a CPU walks the page's tables, which have pages of 2 MB."""
    table = page.address + 0x3000
    for shift in (39, 30, 21):
        at = table - page.address + 8 * (address >> shift & 511)
        (entry,) = struct.unpack_from("<Q", page.content, at)
        assert entry & 1
        table = entry & ~0xFFF
    return table + (address & 0x1FFFFF)


def test_a_probe_has_its_parameters() -> None:
    probe = Probe(b"jump\0\0\0\0" + bytes(100), encrypts=True, wait=5)
    assert probe.file == b"jump\0\0\0\0" + struct.pack("<QQ", 1, 5) + bytes(84)


def test_what_is_no_bzimage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"MZ" + bytes(5000))
    with pytest.raises(KernelImageError, match="no bzImage"):
        boot_image(tmp_path / "file")

# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tools.boot_medium import BootChain, GuestFiles, boot_cd, cd_image, initramfs

SECTOR = 2048
ISOLINUX = b"\xfa\xea" + bytes(62) + b"\x01\x02\x03\x04" * 300  # where a real one keeps its table
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


def root_of(image: bytes) -> dict[str, bytes]:
    """Files of the root directory, read from the primary volume descriptor on."""
    primary = image[16 * SECTOR :]
    assert primary[:6] == b"\x01CD001"
    place, size = (struct.unpack_from("<I", primary, 156 + offset)[0] for offset in (2, 10))
    found, at, end = {}, place * SECTOR, place * SECTOR + size
    while at < end and image[at]:
        place, size = (struct.unpack_from("<I", image, at + offset)[0] for offset in (2, 10))
        name = image[at + 33 : at + 33 + image[at + 32]]
        if name not in (b"\0", b"\1"):
            found[name.decode()] = image[place * SECTOR : place * SECTOR + size]
        at += image[at]
    return found


class TestInitramfs:
    def test_programs_can_be_executed_and_files_cannot(self) -> None:
        found = entries(initramfs({"bin/tool": b"#!/bin/sh\n"}, {"etc/deep/file": b"x" * 4097}))
        assert {name: mode for name, (mode, _) in found.items()} == {
            "bin": 0o040755,
            "etc": 0o040755,
            "etc/deep": 0o040755,
            "bin/tool": 0o100755,
            "etc/deep/file": 0o100644,
        }

    @given(st.dictionaries(NAMES, st.binary(max_size=70), max_size=5))
    def test_has_every_file_after_its_folders(self, files: dict[str, bytes]) -> None:
        folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
        clean = {name: content for name, content in files.items() if name not in folders}
        listed = list(entries(initramfs({}, clean)).items())
        names = [name for name, _ in listed]
        assert {name: entry[1] for name, entry in listed if name in clean} == clean
        for name in names:
            parents = [str(parent) for parent in Path(name).parents if str(parent) != "."]
            assert all(names.index(parent) < names.index(name) for parent in parents)


class TestCd:
    def test_root_has_the_files(self) -> None:
        files = {"ISOLINUX.BIN": ISOLINUX, "INITRD": b"i" * 5000, "A.CFG": b"", "VMLINUZ": b"v"}
        found = root_of(cd_image(files, boot="ISOLINUX.BIN"))
        assert found.pop("ISOLINUX.BIN;1")[64:] == ISOLINUX[64:]
        assert found == {"INITRD.;1": b"i" * 5000, "A.CFG;1": b"", "VMLINUZ.;1": b"v"}

    def test_boot_catalog_leads_to_the_program(self) -> None:
        image = cd_image({"VMLINUZ": b"v" * 3000, "ISOLINUX.BIN": ISOLINUX}, boot="ISOLINUX.BIN")
        (catalog,) = struct.unpack_from("<I", image, 17 * SECTOR + 71)
        validation = image[catalog * SECTOR : catalog * SECTOR + 32]
        assert sum(struct.unpack("<16H", validation)) & 0xFFFF == 0
        (place,) = struct.unpack_from("<I", image, catalog * SECTOR + 40)
        assert image[place * SECTOR :].startswith(b"\xfa\xea")

    def test_program_is_told_where_it_lies(self) -> None:
        image = cd_image({"ISOLINUX.BIN": ISOLINUX}, boot="ISOLINUX.BIN")
        program = root_of(image)["ISOLINUX.BIN;1"]
        descriptors, place, size, total = struct.unpack_from("<4I", program, 8)
        assert (descriptors, size) == (16, len(ISOLINUX))
        assert image[place * SECTOR :].startswith(program)
        words = struct.unpack(f"<{len(program[64:]) // 4}I", program[64:])
        assert total == sum(words) & 0xFFFFFFFF

    def test_same_chain_same_bytes(self, tmp_path: Path) -> None:
        for name in ("busybox", "kexec", "init", "isolinux", "ldlinux", "kernel"):
            (tmp_path / name).write_bytes(ISOLINUX + name.encode())
        guest = GuestFiles(
            *(tmp_path / name for name in ("busybox", "kexec", "init", "isolinux", "ldlinux"))
        )
        kernel = tmp_path / "kernel"
        chain = BootChain(
            kernel=kernel, command_line="first", next_kernel=kernel, next_command_line="second"
        )
        image = boot_cd(chain, guest)
        assert image == boot_cd(chain, guest)
        archive = entries(root_of(image)["INITRD.;1"])
        assert archive["next/command-line"][1] == b"second"
        assert b"APPEND first\n" in root_of(image)["ISOLINUX.CFG;1"]
        # The next kernel has nothing to go on to.
        assert "next/vmlinuz" not in entries(archive["next/initramfs"][1])

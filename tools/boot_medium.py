# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot media for the simulated machine: a CD with a kernel that starts another kernel.

Nothing but Python writes them: an initramfs is a cpio archive of the format "newc"
(Documentation/driver-api/early-userspace/buffer-format.rst of linux), a CD is ISO 9660 with a boot
catalog of El Torito and isolinux. The same input gives the same bytes: no time of day is in it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

__all__ = ["BootChain", "GuestFiles", "boot_cd", "cd_image", "initramfs"]

_SECTOR: Final = 2048
_DESCRIPTORS: Final = 16  # where ISO 9660 begins, in sectors
_BOOT_INFO: Final = 8  # where isolinux.bin wants to be told of its place, in bytes
_SUMMED_FROM: Final = 64
_DIRECTORY: Final = 0o040755
_FILE: Final = 0o100644
_PROGRAM: Final = 0o100755


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """What media are made of, beside kernels.

    Attributes:
        busybox: Linked statically.
        kexec: Made of machine/guest/kexec.c.
        init: machine/guest/init.
        isolinux: isolinux.bin.
        ldlinux: ldlinux.c32, which isolinux loads.
    """

    busybox: Path
    kexec: Path
    init: Path
    isolinux: Path
    ldlinux: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BootChain:
    """A kernel to boot, and the one that it starts.

    Attributes:
        kernel: A bzImage.
        command_line: Of the first kernel.
        next_kernel: A bzImage; None to power off after some work.
        next_command_line: Of the next kernel.
        path: Whether it is reached by kexec or by a crash.
    """

    kernel: Path
    command_line: str
    next_kernel: Path | None = None
    next_command_line: str = ""
    path: str = "kexec"


def boot_cd(chain: BootChain, guest: GuestFiles) -> bytes:
    """A CD that boots the chain's first kernel."""
    configuration = (
        "DEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n"
        f"KERNEL /VMLINUZ\nINITRD /INITRD\nAPPEND {chain.command_line}\n"
    )
    return cd_image(
        {
            "ISOLINUX.BIN": guest.isolinux.read_bytes(),
            "LDLINUX.C32": guest.ldlinux.read_bytes(),
            "ISOLINUX.CFG": configuration.encode(),
            "VMLINUZ": chain.kernel.read_bytes(),
            "INITRD": _first_initramfs(chain, guest),
        },
        boot="ISOLINUX.BIN",
    )


def _first_initramfs(chain: BootChain, guest: GuestFiles) -> bytes:
    programs = {
        "init": guest.init.read_bytes(),
        "bin/busybox": guest.busybox.read_bytes(),
        "bin/kexec": guest.kexec.read_bytes(),
    }
    if chain.next_kernel is None:
        return initramfs(programs, {})
    files = {
        "next/vmlinuz": chain.next_kernel.read_bytes(),
        "next/initramfs": initramfs(programs, {}),
        "next/command-line": chain.next_command_line.encode(),
        "next/path": chain.path.encode(),
    }
    return initramfs(programs, files)


def initramfs(programs: Mapping[str, bytes], files: Mapping[str, bytes]) -> bytes:
    """A cpio archive of programs and other files by their paths, and the folders they are in."""
    paths = [Path(name) for name in (*programs, *files)]
    folders = sorted({str(parent) for path in paths for parent in path.parents} - {"."})
    entries = [(name, _DIRECTORY, b"") for name in folders]
    entries += [(name, _PROGRAM, content) for name, content in programs.items()]
    entries += [(name, _FILE, content) for name, content in files.items()]
    numbered = zip(count(1), entries, strict=False)
    archive = b"".join(_entry(inode, *entry) for inode, entry in numbered)
    return archive + _entry(0, "TRAILER!!!", 0, b"")


def _entry(inode: int, name: str, mode: int, content: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    return _padded(header, 4) + _padded(content, 4)


def cd_image(files: Mapping[str, bytes], boot: str) -> bytes:
    """An ISO 9660 image with these files in its root, which boots one of them.

    Args:
        files: By name, upper case, 8.3.
        boot: The one that the BIOS loads and that is told where it lies, as isolinux expects.
    """
    catalog, path_tables, root = _DESCRIPTORS + 3, _DESCRIPTORS + 4, _DESCRIPTORS + 6
    places: dict[str, int] = {}
    sector = root + 1
    for name, content in files.items():
        places[name] = sector
        sector += _sectors(content)
    contents = dict(files)
    contents[boot] = _with_boot_info(files[boot], places[boot])
    head = [
        _primary_descriptor(sector, path_tables, root),
        _boot_descriptor(catalog),
        _descriptor(255, b""),
        _catalog(places[boot]),
        struct.pack("<BBIH", 1, 0, root, 1) + b"\0\0",
        struct.pack(">BBIH", 1, 0, root, 1) + b"\0\0",
        _root_directory(files, places, root),
    ]
    blocks = [bytes(_DESCRIPTORS * _SECTOR), *head, *contents.values()]
    return b"".join(_padded(block, _SECTOR) for block in blocks)


def _with_boot_info(program: bytes, place: int) -> bytes:
    words = _padded(program[_SUMMED_FROM:], 4)
    total = sum(struct.unpack(f"<{len(words) // 4}I", words)) & 0xFFFFFFFF
    info = struct.pack("<4I", _DESCRIPTORS, place, len(program), total)
    return program[:_BOOT_INFO] + info.ljust(56, b"\0") + program[_SUMMED_FROM:]


def _descriptor(kind: int, content: bytes) -> bytes:
    return struct.pack("<B5sB", kind, b"CD001", 1) + content


def _primary_descriptor(sectors: int, path_tables: int, root: int) -> bytes:
    content = (
        b"\0" + b" " * 32 + b"STALELINE".ljust(32) + bytes(8) + _both(sectors, "I") + bytes(32)
    )
    content += _both(1, "H") + _both(1, "H") + _both(_SECTOR, "H") + _both(10, "I")
    content += struct.pack("<II", path_tables, 0) + struct.pack(">II", path_tables + 1, 0)
    content += _record(b"\0", root, _SECTOR, folder=True)
    content += b" " * (128 * 4 + 37 * 3) + (b"0" * 16 + b"\0") * 4 + b"\x01\0"
    return _descriptor(1, content)


def _boot_descriptor(catalog: int) -> bytes:
    return _descriptor(0, b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", catalog))


def _catalog(place: int) -> bytes:
    validation = struct.pack("<BBH24sHBB", 1, 0, 0, b"staleline", 0, 0x55, 0xAA)
    total = sum(struct.unpack("<16H", validation))
    validation = validation[:28] + struct.pack("<H", -total & 0xFFFF) + validation[30:]
    # 0x88: bootable; no emulation; the BIOS loads four sectors of 512 bytes.
    return validation + struct.pack("<BBHBBHI20x", 0x88, 0, 0, 0, 0, 4, place)


def _root_directory(files: Mapping[str, bytes], places: Mapping[str, int], root: int) -> bytes:
    records = [_record(name, root, _SECTOR, folder=True) for name in (b"\0", b"\x01")]
    for name in sorted(files):
        identifier = f"{name if '.' in name else name + '.'};1".encode()
        records.append(_record(identifier, places[name], len(files[name]), folder=False))
    return b"".join(records)


def _record(identifier: bytes, place: int, size: int, *, folder: bool) -> bytes:
    content = b"\0" + _both(place, "I") + _both(size, "I") + bytes(7)
    content += struct.pack("<BBB", 2 * folder, 0, 0) + _both(1, "H")
    content += bytes([len(identifier)]) + identifier
    content += b"\0" * (len(identifier) % 2 == 0)
    return bytes([len(content) + 1]) + content


def _both(value: int, form: str) -> bytes:
    return struct.pack("<" + form, value) + struct.pack(">" + form, value)


def _sectors(content: bytes) -> int:
    return -(-len(content) // _SECTOR)


def _padded(content: bytes, size: int) -> bytes:
    return content + bytes(-len(content) % size)

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the memory of a simulated machine holds when it is switched on: a kernel to boot.

A boot loader that takes no time: the kernel lies where it is linked to run, unpacked, beside it an
initramfs and the page that tells of both. A boot sector of the guest goes there (machine/guest).

The same input gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from staleline.errors import KernelImageError
from staleline.kernel.file.bzimage import has_setup_header
from staleline.kernel.file.container import unpack_kernel
from staleline.kernel.file.elf import ElfFile, read_elf
from staleline.kernel.file.packages import is_package, read_package
from staleline.kernel.file.source import ByteSource, MemoryBytes, opened_file

__all__ = ["BootImage", "MemoryImage", "Probe", "boot_image", "boot_memory", "initramfs"]

_PAGE: Final = 4096
_MEGABYTE: Final = 1 << 20
_LOADER_PAGE: Final = _MEGABYTE  # where machine/guest/boot.S expects it
_FIRMWARE_TABLES: Final = 1 << 16  # of Bochs' BIOS, at the end of RAM
_RAM, _RESERVED, _ACPI = 1, 2, 3
_DIRECTORY: Final = 0o040755
_FILE: Final = 0o100644
_PROGRAM: Final = 0o100755
_CONSOLE: Final = 0o020600
_UNKNOWN_LOADER: Final = 0xFF
_XLOADFLAGS, _XLF_MEM_ENCRYPTION = 0x236, 1 << 7  # uapi/asm/bootparam.h of linux 7.3.4
_ENCRYPT: Final = ("mem_encrypt=on", "mem_encrypt=off")
_LARGEST: Final = 256 * _MEGABYTE  # of a kernel in memory; Debian's have 60 MB
#: struct probe of machine/guest/probe.S: encrypts, ticks to wait.
_PROBE_PARAMETERS: Final = struct.Struct("<QQ")
_PROBE_PARAMETERS_AT: Final = 8


@dataclass(frozen=True, slots=True)
class MemoryImage:
    """Bytes that lie at an address when the machine is switched on."""

    address: int
    content: bytes


@dataclass(frozen=True, slots=True)
class BootImage:
    """A kernel as a boot loader takes it.

    Attributes:
        file: The bzImage.
        setup: Its setup header, with what stands before it.
        unpacked: What it unpacks itself to, where it lies.
        entry: Where that is entered.
    """

    file: bytes
    setup: bytes
    unpacked: MemoryImage
    entry: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A next kernel that is none: it uses all of its memory, and tells that it did.

    Attributes:
        program: machine/guest/probe.S.
        encrypts: It uses the C-bit.
        wait: Ticks from its stores to its loads.
    """

    program: bytes
    encrypts: bool
    wait: int

    @property
    def file(self) -> bytes:
        """The program with its parameters, as the guest's first process takes it."""
        parameters = _PROBE_PARAMETERS.pack(self.encrypts, self.wait)
        end = _PROBE_PARAMETERS_AT + len(parameters)
        return self.program[:_PROBE_PARAMETERS_AT] + parameters + self.program[end:]


def boot_image(path: str | Path) -> BootImage:
    """A kernel out of a bzImage, or a package with one.

    Raises:
        KernelImageError: It is no kernel that a boot loader can start.
    """
    with opened_file(str(path)) as file:
        source: ByteSource = file
        head = file.read(0, min(file.size, 1 << 16))
        if is_package(head):
            source = read_package(file).content
            head = source.read(0, min(source.size, 1 << 16))
        if not has_setup_header(head):
            raise KernelImageError(
                "no bzImage, which a boot loader could start",
                where=str(path),
                do="give the vmlinuz",
            )
        content = bytes(source.read(0, source.size))
        elf = read_elf(unpack_kernel(MemoryBytes(str(path), memoryview(content))).elf)
        # Where the header ends is what the jump at 0x200 says (6.12
        # Documentation/arch/x86/boot.rst:1352).
        return BootImage(content, content[: 0x202 + content[0x201]], _unpacked(elf), elf.entry)


def _unpacked(elf: ElfFile) -> MemoryImage:
    start = min(segment.physical_address for segment in elf.segments)
    end = max(segment.physical_address + segment.file_size for segment in elf.segments)
    if not _MEGABYTE <= start <= elf.entry < end or end - start > _LARGEST:
        raise KernelImageError(
            f"its segments lie from {start:#x} to {end:#x}, and it is entered at {elf.entry:#x}",
            where=elf.where,
            do="give the vmlinuz as the kernel's build made it",
        )
    content = bytearray(end - start)
    for segment in elf.segments:
        at = segment.physical_address - start
        content[at : at + segment.file_size] = elf.bytes_of(segment)
    return MemoryImage(start, bytes(content))


def boot_memory(
    kernel: BootImage, archive: bytes, command_line: str, megabytes: int
) -> tuple[MemoryImage, MemoryImage, MemoryImage]:
    """All that is in memory for a kernel to be booted.

    Args:
        kernel: What is booted.
        archive: Its initramfs.
        command_line: Of the kernel.
        megabytes: Of RAM.

    Raises:
        KernelImageError: There is no room for it.
    """
    top = megabytes * _MEGABYTE - _FIRMWARE_TABLES
    initrd = (top - _MEGABYTE - len(archive)) & -_PAGE
    kernel_end = kernel.unpacked.address + len(kernel.unpacked.content)
    # What a kernel has beyond its file, .bss above all, lies behind that.
    if initrd < kernel_end + 32 * _MEGABYTE:
        raise KernelImageError(
            f"{megabytes} MB of RAM have no room for a kernel that ends at {kernel_end:#x} and "
            f"an initramfs of {len(archive) // _MEGABYTE} MB",
            do="give the machine more memory",
        )
    page = b"".join(
        (
            struct.pack("<Q", kernel.entry).ljust(_PAGE, b"\0"),
            _zero_page(kernel.setup, command_line, (initrd, len(archive)), top),
            command_line.encode().ljust(_PAGE, b"\0"),
            _identity_tables(_LOADER_PAGE + 3 * _PAGE),
        )
    )
    # Reading it all from a CD and unpacking it would take most of a run. The kernel that is booted
    # does not see the difference; the next one unpacks itself, as it does everywhere.
    return MemoryImage(_LOADER_PAGE, page), kernel.unpacked, MemoryImage(initrd, archive)


def _zero_page(setup: bytes, command_line: str, initrd: tuple[int, int], top: int) -> bytes:
    page = bytearray(_PAGE)
    # Documentation/arch/x86/boot.rst and zero-page.rst of linux.
    page[0x1F1 : len(setup)] = setup[0x1F1:]
    page[0x210] = _UNKNOWN_LOADER
    _say_whether_to_encrypt(page, command_line)
    struct.pack_into("<II", page, 0x218, *initrd)
    struct.pack_into("<I", page, 0x228, _LOADER_PAGE + 2 * _PAGE)
    areas = _e820(top)
    page[0x1E8] = len(areas)
    for number, area in enumerate(areas):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * number, *area)
    return bytes(page)


def _say_whether_to_encrypt(page: bytearray, command_line: str) -> None:
    """As the part of a kernel that unpacks it makes it of the command line since 6.8."""
    # Of several the last counts (7.3.4 arch/x86/boot/cmdline.c:22).
    words = command_line.split()[::-1]
    on, off = (words.index(word) if word in words else len(words) for word in _ENCRYPT)
    if on < off:
        # The rest looks at nothing but this (linux 7.3.4 arch/x86/boot/compressed/misc.c:368,
        # startup/sme.c:541).
        page[_XLOADFLAGS] |= _XLF_MEM_ENCRYPTION


def _e820(top: int) -> tuple[tuple[int, int, int], ...]:
    """Start, size and kind, as Bochs' BIOS tells them (INT 15h, E820h)."""
    return (
        (0, 0x9FC00, _RAM),
        (0x9FC00, 0x400, _RESERVED),
        (0xE8000, 0x18000, _RESERVED),
        (_MEGABYTE, top - _MEGABYTE, _RAM),
        (top, _FIRMWARE_TABLES, _ACPI),
        (0xFFFC0000, 0x40000, _RESERVED),
    )


def _identity_tables(at: int) -> bytes:
    """Page tables that map 4 GB where they are, by pages of 2 MB."""
    present_writable, large = 3, 0x80
    directories = [at + (2 + number) * _PAGE for number in range(4)]
    tables = [
        [at + _PAGE + present_writable],
        [directory + present_writable for directory in directories],
        [(number << 21) + present_writable + large for number in range(4 * 512)],
    ]
    return b"".join(_padded(struct.pack(f"<{len(table)}Q", *table), _PAGE) for table in tables)


def initramfs(programs: Mapping[str, bytes], files: Mapping[str, bytes]) -> bytes:
    """A cpio archive of programs and other files by their paths, their folders, and a console."""
    paths = [Path(name) for name in (*programs, *files, "dev/console")]
    folders = sorted({str(parent) for path in paths for parent in path.parents} - {"."})
    entries: list[tuple[str, int, bytes]] = [(name, _DIRECTORY, b"") for name in folders]
    entries.append(("dev/console", _CONSOLE, b""))
    entries += [(name, _PROGRAM, content) for name, content in programs.items()]
    entries += [(name, _FILE, content) for name, content in files.items()]
    return b"".join(_entries(entries))


def _entries(entries: Iterable[tuple[str, int, bytes]]) -> Iterable[bytes]:
    for inode, (name, mode, content) in zip(count(1), entries, strict=False):
        yield _entry(inode, name, mode, content)
    yield _entry(0, "TRAILER!!!", 0, b"")


def _entry(inode: int, name: str, mode: int, content: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    device = (5, 1) if mode == _CONSOLE else (0, 0)  # Documentation/admin-guide/devices.txt
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
    # The format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst of linux).
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    return _padded(header, 4) + _padded(content, 4)


def _padded(content: bytes, size: int) -> bytes:
    return content + bytes(-len(content) % size)

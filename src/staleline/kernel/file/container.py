# SPDX-License-Identifier: GPL-2.0-or-later
"""From whatever a kernel comes in to its ELF file.

A package holds an image, a unified kernel image holds a bzImage, a bzImage holds the
compressed ELF file; each may also come by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from staleline.errors import KernelImageError
from staleline.kernel.file.bzimage import HEADER_REACH, has_setup_header, read_setup_header
from staleline.kernel.file.decompress import MAX_PACKED, MAX_UNPACKED, decompress
from staleline.kernel.file.elf import is_elf
from staleline.kernel.file.packages import is_package, read_package
from staleline.kernel.file.source import ByteSource, MemoryBytes, PartBytes
from staleline.kernel.file.spool import is_stream, unpacked_image
from staleline.kernel.file.uki import is_pe, linux_section
from staleline.unpacking import compression_of

__all__ = ["BANNER_START", "UnpackedKernel", "unpack_kernel"]

BANNER_START: Final = re.compile(rb"Linux version \d")
_BANNER: Final = re.compile(rb"(Linux version \d[!-~]*) \([ -~]*\n\0")  # init/version.c
_LONGEST_BANNER: Final = 1024
_BANNERS: Final = 256  # places that a hostile file can have tried
_PIECE: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class UnpackedKernel:
    """An ELF file and what its wrapping tells.

    Attributes:
        elf: The ELF file.
        release: As the setup header has it; None for a bare ELF file.
        member: Name of the image in its package; None if it came by itself.
        package: Name of that package.
        version: Its version.
    """

    elf: ByteSource
    release: str | None
    member: str | None = None
    package: str | None = None
    version: str | None = None


def unpack_kernel(file: ByteSource) -> UnpackedKernel:
    """Find the ELF file in a file of any known kind.

    Raises:
        KernelImageError: It is of none, or damaged, or larger than a kernel can be.
    """
    # Whatever it is may be compressed as a whole, as vmlinux.gz is.
    if is_stream(_head(file)):
        file = unpacked_image(file)
    if is_package(_head(file)):
        packaged = read_package(file)
        unpacked = _unpack_image(packaged.content)
        return UnpackedKernel(*unpacked, packaged.member, packaged.package, packaged.version)
    return UnpackedKernel(*_unpack_image(file))


def _head(file: ByteSource) -> memoryview:
    return file.read(0, min(file.size, HEADER_REACH))


def _unpack_image(file: ByteSource) -> tuple[ByteSource, str | None]:
    head = _head(file)
    if is_elf(head):
        return file, None
    # Before PE: with an EFI stub a bzImage is one as well (arch/x86/boot/header.S).
    if has_setup_header(head):
        return _unpack_bzimage(file)
    section = linux_section(file) if is_pe(head) else None
    if section is None:
        raise _without_headers(file) or _foreign(head, file.where)
    kernel = PartBytes(f"{file.where} (.linux)", file, *section)
    if not has_setup_header(_head(kernel)):
        raise _foreign(_head(kernel), kernel.where)
    return _unpack_bzimage(kernel)


def _unpack_bzimage(file: ByteSource) -> tuple[ByteSource, str | None]:
    header = read_setup_header(_head(file), file.where, file.size)
    where = f"{file.where}+{header.payload_offset:#x}"
    stored = is_elf(file.read(header.payload_offset, min(4, header.payload_length)))
    # What is stored without compression is as large as a kernel in memory.
    limit = MAX_UNPACKED if stored else MAX_PACKED
    if header.payload_length > limit:
        raise KernelImageError(
            f"payload of {header.payload_length} bytes, the limit is {limit}",
            where=where,
            do="the file is corrupt or no kernel, copy it again",
        )
    elf = decompress(file.read(header.payload_offset, header.payload_length), where)
    return MemoryBytes(f"{file.where} (unpacked)", elf), header.release


def _without_headers(file: ByteSource) -> KernelImageError | None:
    """For the bytes of a kernel's memory, from objcopy, a debugger or a hypervisor's monitor."""
    for start, text in islice(_banners(file), _BANNERS):
        if banner := _BANNER.match(text):
            return KernelImageError(
                f"memory of a kernel ({banner[1].decode()}) without headers, which would say "
                "where each part is loaded",
                where=f"{file.where}+{start:#x}",
                do="give its vmlinuz or vmlinux, or link an ELF header to it as docs/images.md has",
            )
    return None


def _banners(file: ByteSource) -> Iterator[tuple[int, bytes]]:
    """What begins like a banner, and where; as much of it as a banner may have."""
    for start in range(0, min(file.size, MAX_UNPACKED), _PIECE):
        # Pieces overlap by the longest banner, which may lie across the end of one.
        piece = file.read(start, min(_PIECE + _LONGEST_BANNER, file.size - start))
        for begun in BANNER_START.finditer(piece):
            if begun.start() < _PIECE:
                text = bytes(piece[begun.start() : begun.start() + _LONGEST_BANNER])
                yield start + begun.start(), text


def _foreign(head: memoryview, path: str) -> KernelImageError:
    """What else the file is, as far as its first bytes tell."""
    wanted = "give a vmlinuz or vmlinux for x86-64"
    if not head:
        return KernelImageError("empty file", where=f"{path}+0x0", do="copy it again")
    # Before PE: with an EFI stub it is one as well.
    if bytes(head[0x38:0x3C]) == b"ARM\x64":  # Documentation/arch/arm64/booting.rst
        return KernelImageError("a kernel for arm64", where=f"{path}+0x38", do=wanted)
    if (method := compression_of(head)) is not None:
        return KernelImageError(
            f"a bare {method} stream, not a bzImage", where=f"{path}+0x0", do="unpack it first"
        )
    if is_pe(head):
        return KernelImageError(
            "a PE file with neither a Linux setup header nor a section .linux",
            where=f"{path}+0x202",
            do=wanted,
        )
    return KernelImageError("not a kernel image", where=f"{path}+0x0", do=wanted)

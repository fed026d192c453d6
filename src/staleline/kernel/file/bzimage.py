# SPDX-License-Identifier: GPL-2.0-or-later
"""The setup header of an x86 bzImage: where the compressed kernel lies in the file.

Layout: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header" (Linux 6.12).
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from

from staleline.errors import KernelImageError

__all__ = ["HEADER_REACH", "SetupHeader", "has_setup_header", "read_setup_header"]

HEADER_REACH = 0x10400
"""Bytes from the start of the file within which the header and its version string lie."""

_MAGIC_OFFSET = 0x202
_MAGIC = b"HdrS"
_HEADER_END = 0x250
_PAYLOAD_PROTOCOL = 0x208  # payload_offset and payload_length exist from here on
_XLOADFLAGS_PROTOCOL = 0x20C
_XLF_KERNEL_64 = 1 << 0
_SECTOR = 512
_VERSION_LIMIT = 256


@dataclass(frozen=True, slots=True)
class SetupHeader:
    """What the loader needs of the setup header.

    Attributes:
        payload_offset: Start of the compressed kernel in the file, in bytes.
        payload_length: Its length in bytes, size trailer included.
        release: First word of the version string, e.g. ``6.12.107+deb13-amd64``.
    """

    payload_offset: int
    payload_length: int
    release: str | None


def has_setup_header(head: memoryview) -> bool:
    """Does a file that begins with these bytes carry the mark of a Linux x86 boot image?"""
    return bytes(head[_MAGIC_OFFSET : _MAGIC_OFFSET + 4]) == _MAGIC


def read_setup_header(head: memoryview, where: str, size: int) -> SetupHeader:
    """Read the header of a file for which `has_setup_header` holds.

    Args:
        head: The first `HEADER_REACH` bytes of the file, or all if it is shorter.
        where: The file, for messages.
        size: The file's length in bytes.

    Raises:
        KernelImageError: The header is cut off, too old, of a 32-bit kernel, or points
            outside the file.
    """
    if len(head) < _HEADER_END:
        raise KernelImageError(
            f"setup header ends at {len(head):#x} of {_HEADER_END:#x} bytes",
            where=f"{where}+{len(head):#x}",
            do="the file is truncated, copy it again",
        )
    (protocol,) = unpack_from("<H", head, 0x206)
    if protocol < _PAYLOAD_PROTOCOL:
        raise KernelImageError(
            f"boot protocol {protocol >> 8}.{protocol & 0xFF:02d} has no payload field",
            where=f"{where}+0x206",
            do="use a kernel of 2.6.26 or later",
        )
    _require_64_bit(head, protocol, where)
    offset, length = _payload(head, where, size)
    return SetupHeader(offset, length, _release(head))


def _require_64_bit(head: memoryview, protocol: int, where: str) -> None:
    (xloadflags,) = unpack_from("<H", head, 0x236)
    # An older header does not say; the ELF file inside is asked again.
    if protocol >= _XLOADFLAGS_PROTOCOL and not xloadflags & _XLF_KERNEL_64:
        raise KernelImageError(
            "a 32-bit x86 kernel (XLF_KERNEL_64 is clear)",
            where=f"{where}+0x236",
            do="give an x86-64 kernel",
        )


def _payload(head: memoryview, where: str, size: int) -> tuple[int, int]:
    setup_sectors = head[0x1F1] or 4  # 0 means 4, boot.rst "setup_sects"
    relative, length = unpack_from("<II", head, 0x248)
    if length == 0:
        raise KernelImageError(
            "a bzImage without payload",
            where=f"{where}+0x24c",
            do="give the image as the kernel's build installed it",
        )
    # From the start of the protected-mode code: behind the boot sector and the set-up code.
    offset = (setup_sectors + 1) * _SECTOR + relative
    if offset + length > size:
        raise KernelImageError(
            f"payload at {offset:#x} of {length} bytes ends after the file's {size} bytes",
            where=f"{where}+0x248",
            do="the file is truncated, copy it again",
        )
    return offset, length


def _release(head: memoryview) -> str | None:
    (pointer,) = unpack_from("<H", head, 0x20E)
    if pointer == 0:
        return None
    start = pointer + _SECTOR  # boot.rst "kernel_version": it counts from behind the boot sector
    words = bytes(head[start : start + _VERSION_LIMIT]).split(b"\0")[0].split()
    return words[0].decode("ascii", "replace") if words else None

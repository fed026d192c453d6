# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel inside a unified kernel image: a PE file with a section ``.linux``.

Layouts: "Unified Kernel Image (UKI)" of the UAPI group's specifications, and Microsoft's
"PE Format".
"""

from __future__ import annotations

from struct import Struct, unpack
from typing import Final

from staleline.errors import KernelImageError
from staleline.kernel.file.source import ByteSource

__all__ = ["is_pe", "linux_section"]

_SIGNATURE_OFFSET: Final = 0x3C
_FILE_HEADER: Final = Struct("<4sHH12xHxx")
_SECTION: Final = Struct("<8sI4x2I16x")
_NAME: Final = b".linux".ljust(8, b"\0")


def is_pe(head: memoryview) -> bool:
    """Does a file that begins with these bytes call itself a PE file?"""
    return bytes(head[:2]) == b"MZ"


def linux_section(source: ByteSource) -> tuple[int, int] | None:
    """Offset and size of the kernel in a PE file; None if it has no such section.

    Raises:
        KernelImageError: The headers or the section end after the file, or there are two kernels,
            of which a profile of the image chooses one.
    """
    (at,) = unpack("<I", source.read(_SIGNATURE_OFFSET, 4))
    magic, _, count, optional = _FILE_HEADER.unpack(source.read(at, _FILE_HEADER.size))
    if magic != b"PE\0\0":
        return None
    table = source.read(at + _FILE_HEADER.size + optional, count * _SECTION.size)
    kernels = [
        # Stored sizes are rounded up to the file's alignment, used ones are not.
        (start, min(used, stored))
        for name, used, stored, start in _SECTION.iter_unpack(table)
        if name == _NAME
    ]
    if len(kernels) > 1:
        raise KernelImageError(
            f"a unified image of {len(kernels)} kernels, of which its profiles choose one",
            where=source.where,
            do="give the vmlinuz of the one that is booted",
        )
    for start, size in kernels:
        source.read(start + size, 0)  # raises if it ends after the file
    return kernels[0] if kernels else None

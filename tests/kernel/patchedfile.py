# SPDX-License-Identifier: GPL-2.0-or-later
"""A real kernel as an ELF file with other bytes at some addresses, for whole commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from staleline.kernel.file.container import unpack_kernel
from staleline.kernel.file.elf import read_elf
from staleline.kernel.file.source import MemoryBytes

__all__ = ["patched_file"]


def patched_file(kernel: Path, patches: Mapping[int, bytes]) -> bytes:
    """The unpacked ELF file of an image, its bytes replaced by link address."""
    source = unpack_kernel(MemoryBytes("", memoryview(kernel.read_bytes()))).elf
    content = bytearray(source.read(0, source.size))
    segments = read_elf(source).segments
    for address, code in patches.items():
        (segment,) = (
            segment
            for segment in segments
            if 0 <= address - segment.virtual_address < segment.file_size
        )
        at = segment.offset + address - segment.virtual_address
        content[at : at + len(code)] = code
    return bytes(content)

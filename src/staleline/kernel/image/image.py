# SPDX-License-Identifier: GPL-2.0-or-later
"""Load an x86-64 kernel: bytes by link address, sections and symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from staleline.errors import KernelImageError
from staleline.kernel.image.symbols import SymbolTable

__all__ = ["KernelImage", "Section", "Segment"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One loadable part of the kernel.

    Attributes:
        virtual_address: Link address (0 for the zero-based per-CPU segment of 5.10 to 6.12).
        physical_address: Where it is loaded without relocation.
        data: Its bytes from the file.
        memory_size: Bytes in memory; those beyond `data` are zero.
        executable: It holds code.
    """

    virtual_address: int
    physical_address: int
    data: memoryview
    memory_size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class Section:
    """One section that is part of the running kernel; addresses as linked, sizes in bytes."""

    name: str
    virtual_address: int
    size: int


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class KernelImage:
    """A kernel, unpacked.

    Attributes:
        path: The file it was read from.
        release: What ``uname -r`` says when it runs.
        banner: The line "Linux version ..." it prints first.
        build_id: GNU build ID in hexadecimal.
        segments: In file order.
        sections: By name; empty if the file has no section headers.
        symbols: All symbols; see `staleline.kernel.image.symbols` for per-CPU addresses.
        member: Its name in the package it was read from; None if it came by itself.
        package: The name of that package.
        version: Its version.
    """

    path: str
    release: str | None
    banner: str | None
    build_id: str | None
    segments: tuple[Segment, ...]
    sections: Mapping[str, Section]
    symbols: SymbolTable
    member: str | None = None
    package: str | None = None
    version: str | None = None

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a link address.

        Raises:
            KernelImageError: Some of them are outside all segments.
        """
        # Bytes of two segments are never one read's, and no two are at one place (`assembly`). What
        # a file leaves out of a segment is zero in memory (System V ABI, program header, p_memsz).
        for segment in self.segments:
            start = address - segment.virtual_address
            if size >= 0 and start >= 0 and start + size <= segment.memory_size:
                return bytes(segment.data[start : start + size]).ljust(size, b"\0")
        raise KernelImageError(
            f"no segment holds {size} bytes at {address:#x}",
            where=self.path,
            do="give the kernel this address belongs to",
        )

    def section_bytes(self, name: str) -> bytes:
        """Content of a section.

        Raises:
            KernelImageError: There is no such section.
        """
        section = self.sections.get(name)
        if section is None:
            raise KernelImageError(
                f"no section {name}", where=self.path, do="give an image with section headers"
            )
        return self.read(section.virtual_address, section.size)

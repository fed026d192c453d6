# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of an ELF64 file that describe a kernel: segments, sections, notes, symbols.

The headers are read here rather than with pyelftools: importing that takes as long as
unpacking half a kernel, and its errors do not name the file offset a user needs. A test
compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from staleline.errors import KernelImageError

__all__ = ["ElfFile", "ElfSection", "ElfSegment", "is_elf", "read_elf"]

_HEADER = Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = Struct("<IIQQQQQQ")
_SECTION_HEADER = Struct("<IIQQQQIIQQ")
_NOTE_HEADER = Struct("<III")

_ELFCLASS64 = 2
_ELFDATA2LSB = 1
_ET_NAMES = {1: "a relocatable object", 4: "a core dump"}
_EM_X86_64 = 62
_EM_NAMES = {3: "i386", 21: "ppc64", 22: "s390x", 40: "arm", 183: "aarch64", 243: "riscv"}
_EM_NAMES |= {258: "loongarch"}
_PT_LOAD = 1
_PF_X = 1
_SHT_NOBITS = 8
_SHF_ALLOC = 2
_NT_GNU_BUILD_ID = 3


@dataclass(frozen=True, slots=True)
class ElfSegment:
    """One PT_LOAD entry; addresses and sizes in bytes."""

    virtual_address: int
    physical_address: int
    offset: int
    file_size: int
    memory_size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class ElfSection:
    """One section header; `in_file` is False for NOBITS, `allocated` is SHF_ALLOC."""

    name: str
    virtual_address: int
    offset: int
    size: int
    link: int
    allocated: bool
    in_file: bool


@dataclass(frozen=True, slots=True)
class ElfFile:
    """Headers of one ELF64 x86-64 file and its bytes."""

    data: memoryview
    where: str
    segments: tuple[ElfSegment, ...]
    sections: tuple[ElfSection, ...]

    def section(self, name: str) -> ElfSection | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def bytes_of(self, part: ElfSection | ElfSegment) -> memoryview:
        """File bytes of a section or segment (none for NOBITS)."""
        if isinstance(part, ElfSection):
            size = part.size if part.in_file else 0
        else:
            size = part.file_size
        return self.data[part.offset : part.offset + size]

    def build_id(self) -> str | None:
        """The GNU build ID in hexadecimal, from ``.notes`` or ``.note.gnu.build-id``."""
        for name in (".notes", ".note.gnu.build-id"):
            section = self.section(name)
            for owner, kind, text in _notes(self.bytes_of(section) if section else None):
                if owner == b"GNU" and kind == _NT_GNU_BUILD_ID:
                    return text.hex()
        return None


def is_elf(data: memoryview) -> bool:
    """Does the file begin with the ELF mark?"""
    return bytes(data[:4]) == b"\x7fELF"


def read_elf(data: memoryview, where: str) -> ElfFile:
    """Read and check the headers.

    Raises:
        KernelImageError: Truncated, or not an x86-64 ELF64 executable.
    """
    if len(data) < _HEADER.size:
        raise _truncated(where, 0, _HEADER.size, len(data))
    header = _HEADER.unpack_from(data)
    _require_x86_64(header[0], header[1], header[2], where)
    program_offset, section_offset = header[5], header[6]
    program_size, program_count, section_size, section_count, names_index = header[9:14]
    if program_count and program_size != _PROGRAM_HEADER.size:
        raise _malformed(f"program headers of {program_size} bytes", f"{where}+0x36")
    segments = tuple(_segments(data, where, program_offset, program_count))
    if section_count and section_size != _SECTION_HEADER.size:
        raise _malformed(f"section headers of {section_size} bytes", f"{where}+0x3a")
    sections = tuple(_sections(data, where, section_offset, section_count, names_index))
    return ElfFile(data, where, segments, sections)


def _require_x86_64(ident: bytes, kind: int, machine: int, where: str) -> None:
    if ident[4] != _ELFCLASS64:
        raise _foreign("a 32-bit ELF file", f"{where}+0x4")
    if ident[5] != _ELFDATA2LSB:
        raise _foreign("a big-endian ELF file", f"{where}+0x5")
    if machine != _EM_X86_64:
        name = _EM_NAMES.get(machine, f"machine {machine}")
        raise _foreign(f"an ELF file for {name}", f"{where}+0x12")
    if kind in _ET_NAMES:
        raise _foreign(f"{_ET_NAMES[kind]}, not a linked kernel", f"{where}+0x10")


def _segments(data: memoryview, where: str, offset: int, count: int) -> Iterator[ElfSegment]:
    _require_range(data, where, offset, count * _PROGRAM_HEADER.size)
    for index in range(count):
        at = offset + index * _PROGRAM_HEADER.size
        kind, flags, start, virtual, physical, file_size, memory_size, _ = (
            _PROGRAM_HEADER.unpack_from(data, at)
        )
        if kind != _PT_LOAD:
            continue
        _require_range(data, where, start, file_size)
        if memory_size < file_size:
            raise _malformed("a segment smaller in memory than in the file", f"{where}+{at:#x}")
        yield ElfSegment(virtual, physical, start, file_size, memory_size, bool(flags & _PF_X))


def _sections(
    data: memoryview, where: str, offset: int, count: int, names_index: int
) -> Iterator[ElfSection]:
    _require_range(data, where, offset, count * _SECTION_HEADER.size)
    headers = [
        _SECTION_HEADER.unpack_from(data, offset + index * _SECTION_HEADER.size)
        for index in range(count)
    ]
    if headers and names_index >= count:
        raise _malformed("section name table index out of range", f"{where}+0x3e")
    names = headers[names_index] if headers else None
    table = data[names[4] : names[4] + names[5]] if names else data[:0]
    for name, kind, flags, virtual, start, size, link, *_ in headers:
        in_file = kind not in (0, _SHT_NOBITS)
        if in_file:
            _require_range(data, where, start, size)
        text = bytes(table[name : name + 256]).split(b"\0")[0].decode("ascii", "replace")
        yield ElfSection(text, virtual, start, size, link, bool(flags & _SHF_ALLOC), in_file)


def _notes(data: memoryview | None) -> Iterator[tuple[bytes, int, bytes]]:
    """Owner, type and content of each note; a note that runs past the end stops it."""
    position = 0
    while data is not None and position + _NOTE_HEADER.size <= len(data):
        owner_size, size, kind = _NOTE_HEADER.unpack_from(data, position)
        position += _NOTE_HEADER.size
        owner = bytes(data[position : position + owner_size]).rstrip(b"\0")
        position += (owner_size + 3) & ~3
        if position + size > len(data):
            return
        yield owner, kind, bytes(data[position : position + size])
        position += (size + 3) & ~3


def _require_range(data: memoryview, where: str, offset: int, size: int) -> None:
    if offset + size > len(data):
        raise _truncated(where, offset, size, len(data))


def _truncated(where: str, offset: int, size: int, length: int) -> KernelImageError:
    return KernelImageError(
        f"{size} bytes expected at {offset:#x}, the data ends at {length:#x}",
        where=f"{where}+{min(offset, length):#x}",
        do="the file is truncated, copy it again",
    )


def _malformed(what: str, where: str) -> KernelImageError:
    return KernelImageError(
        f"malformed ELF headers: {what}", where=where, do="the file is corrupt, copy it again"
    )


def _foreign(what: str, where: str) -> KernelImageError:
    return KernelImageError(what, where=where, do="give a vmlinuz or vmlinux for x86-64")

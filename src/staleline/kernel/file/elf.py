# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of an ELF64 file that describe a kernel: segments, sections, notes, symbols."""

# Not read with pyelftools: importing that takes as long as unpacking half a kernel, and its errors
# do not name the file offset that a user needs. A test compares the two.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from staleline.errors import KernelImageError
from staleline.kernel.file.source import ByteSource

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
_SHT_NULL = 0
_SHT_NOBITS = 8
_SHF_ALLOC = 2
_SHF_EXECINSTR = 4
_SHN_XINDEX = 0xFFFF
_NT_GNU_BUILD_ID = 3
_NAME_LIMIT = 256
# Bounds on what a hostile file can ask for; kernels have 5 segments, 50 sections and 500
# bytes of notes.
_MAX_SEGMENTS = 64
_MAX_SECTIONS = 1 << 17
_MAX_NAMES = 1 << 20
_MAX_NOTES = 1 << 16


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
    """One section header; `file_size` is 0 for NOBITS, `allocated` is SHF_ALLOC."""

    name: str
    virtual_address: int
    offset: int
    size: int
    file_size: int
    link: int
    allocated: bool


@dataclass(frozen=True, slots=True)
class ElfFile:
    """Headers of one ELF64 x86-64 file, where it is entered and where its bytes are."""

    source: ByteSource
    entry: int
    segments: tuple[ElfSegment, ...]
    sections: tuple[ElfSection, ...]

    @property
    def where(self) -> str:
        """How messages call the file."""
        return self.source.where

    def section(self, name: str) -> ElfSection | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def bytes_of(self, part: ElfSection | ElfSegment) -> memoryview:
        """File bytes of a section (none for NOBITS) or a segment."""
        # What has no bytes may be said to lie behind the file's end.
        return self.source.read(part.offset if part.file_size else 0, part.file_size)

    def build_id(self) -> str | None:
        """The GNU build ID in hexadecimal, from ``.notes`` or ``.note.gnu.build-id``."""
        for name in (".notes", ".note.gnu.build-id"):
            section = self.section(name)
            if section is None or section.file_size > _MAX_NOTES:
                continue
            for owner, kind, text in _notes(self.bytes_of(section)):
                if owner == b"GNU" and kind == _NT_GNU_BUILD_ID:
                    return text.hex()
        return None


def is_elf(head: memoryview) -> bool:
    """Does a file that begins with these bytes call itself ELF?"""
    return bytes(head[:4]) == b"\x7fELF"


def read_elf(source: ByteSource) -> ElfFile:
    """Read and check the headers.

    Raises:
        KernelImageError: Truncated, or not an x86-64 ELF64 executable.
    """
    where = source.where
    header = _HEADER.unpack(source.read(0, _HEADER.size))
    _require_x86_64(header[0], header[1], header[2], where)
    program_offset, section_offset = header[5], header[6]
    program_size, program_count, section_size, section_count, names_index = header[9:14]
    if program_count > _MAX_SEGMENTS:
        raise _malformed(f"{program_count} program headers", f"{where}+0x38")
    if program_count and program_size != _PROGRAM_HEADER.size:
        raise _malformed(f"program headers of {program_size} bytes", f"{where}+0x36")
    if section_count and section_size != _SECTION_HEADER.size:
        raise _malformed(f"section headers of {section_size} bytes", f"{where}+0x3a")
    if section_offset and section_size == _SECTION_HEADER.size:
        numbers = section_count, names_index
        section_count, names_index = _numbering(source, section_offset, *numbers)
    if section_count and names_index >= section_count:
        raise _malformed("section name table index out of range", f"{where}+0x3e")
    return ElfFile(
        source,
        header[4],
        tuple(_segments(source, program_offset, program_count)),
        tuple(_sections(source, section_offset, section_count, names_index)),
    )


def _numbering(source: ByteSource, offset: int, count: int, names_index: int) -> tuple[int, int]:
    """How many sections there are, and which holds their names.

    Numbers that do not fit into the ELF header stand in the first section's (System V ABI, ELF
    header, e_shnum and e_shstrndx; linux include/uapi/linux/elf.h, SHN_XINDEX).
    """
    if count and names_index != _SHN_XINDEX:
        return count, names_index
    first = _SECTION_HEADER.unpack(source.read(offset, _SECTION_HEADER.size))
    count = count or first[5]
    if count > _MAX_SECTIONS:
        raise _malformed(f"{count} sections", f"{source.where}+{offset:#x}")
    return count, first[6] if names_index == _SHN_XINDEX else names_index


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


def _segments(source: ByteSource, offset: int, count: int) -> Iterator[ElfSegment]:
    table = source.read(offset, count * _PROGRAM_HEADER.size)
    for index, entry in enumerate(_PROGRAM_HEADER.iter_unpack(table)):
        kind, flags, start, virtual, physical, file_size, memory_size, _ = entry
        if kind != _PT_LOAD:
            continue
        at = f"{source.where}+{offset + index * _PROGRAM_HEADER.size:#x}"
        if start + file_size > source.size:
            raise _malformed("a segment that ends after the file", at)
        # ELF gives the rest of a segment as zeros, so that it is never the smaller in memory.
        if memory_size < file_size:
            raise _malformed("a segment smaller in memory than in the file", at)
        yield ElfSegment(virtual, physical, start, file_size, memory_size, bool(flags & _PF_X))


def _sections(
    source: ByteSource, offset: int, count: int, names_index: int
) -> Iterator[ElfSection]:
    headers = list(_SECTION_HEADER.iter_unpack(source.read(offset, count * _SECTION_HEADER.size)))
    names = _section_names(source, *headers[names_index][4:6]) if headers else b""
    for index, (name, kind, flags, virtual, start, size, link, *_) in enumerate(headers):
        file_size = 0 if kind in (_SHT_NULL, _SHT_NOBITS) else size
        if file_size and start + file_size > source.size:
            at = f"{source.where}+{offset + index * _SECTION_HEADER.size:#x}"
            raise _malformed("a section that ends after the file", at)
        # What its segments say is of the file that it was separated from (objcopy(1)
        # --only-keep-debug, eu-strip(1) -f).
        if kind == _SHT_NOBITS and flags & _SHF_EXECINSTR and size:
            raise KernelImageError(
                "debug information that was separated from its kernel, without the code",
                where=source.where,
                do="give the vmlinuz or vmlinux itself",
            )
        text = names[name : name + _NAME_LIMIT].split(b"\0")[0].decode("ascii", "replace")
        yield ElfSection(text, virtual, start, size, file_size, link, bool(flags & _SHF_ALLOC))


def _section_names(source: ByteSource, offset: int, size: int) -> bytes:
    if size > _MAX_NAMES:
        raise _malformed(f"section names of {size} bytes", f"{source.where}+{offset:#x}")
    return bytes(source.read(offset, size))


def _notes(section: memoryview) -> Iterator[tuple[bytes, int, bytes]]:
    """Owner, type and content of each note; a note that runs past the end stops it."""
    position = 0
    while position + _NOTE_HEADER.size <= len(section):
        owner_size, size, kind = _NOTE_HEADER.unpack_from(section, position)
        position += _NOTE_HEADER.size
        owner = bytes(section[position : position + owner_size]).rstrip(b"\0")
        # Both are padded to four bytes in ELF64 too, unlike what its specification says; so
        # include/linux/elfnote.h writes them.
        position += (owner_size + 3) & ~3
        if position + size > len(section):
            return
        yield owner, kind, bytes(section[position : position + size])
        position += (size + 3) & ~3


def _malformed(what: str, where: str) -> KernelImageError:
    return KernelImageError(
        f"malformed ELF headers: {what}", where=where, do="the file is corrupt, copy it again"
    )


def _foreign(what: str, where: str) -> KernelImageError:
    return KernelImageError(what, where=where, do="give a vmlinuz or vmlinux for x86-64")

# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import io
import struct

import pytest
from elftools.elf.elffile import ELFFile

from staleline.errors import KernelImageError
from staleline.kernel.file.elf import read_elf
from staleline.kernel.file.source import MemoryBytes
from staleline.kernel.image.elfsymbols import read_symbol_table
from tests.kernel.kernelwriter import BUILD_ID, TEXT, Kernel, Layout, Part, some_symbols, write_elf


def elf(data: bytes):
    return read_elf(MemoryBytes("vmlinux", memoryview(data)))


def test_headers_agree_with_pyelftools():
    data = Kernel().elf(symtab=True)
    ours, theirs = elf(data), ELFFile(io.BytesIO(data))
    assert [(s.name, s.virtual_address, s.offset, s.size, s.link) for s in ours.sections] == [
        (s.name, s["sh_addr"], s["sh_offset"], s["sh_size"], s["sh_link"])
        for s in theirs.iter_sections()
    ]
    assert [
        (s.virtual_address, s.physical_address, s.offset, s.file_size, s.memory_size)
        for s in ours.segments
    ] == [
        (s["p_vaddr"], s["p_paddr"], s["p_offset"], s["p_filesz"], s["p_memsz"])
        for s in theirs.iter_segments()
    ]


def test_build_id_is_read_from_the_notes():
    assert elf(Kernel().elf()).build_id() == BUILD_ID.hex()


def test_without_notes_there_is_no_build_id():
    assert elf(write_elf([Part(".text", b"\x90", TEXT)])).build_id() is None


def test_a_note_that_runs_past_the_end_is_not_read():
    part = Part(".notes", struct.pack("<III", 4, 0xFFFF_FFF0, 3) + b"GNU\0abcd", kind=7)
    assert elf(write_elf([part])).build_id() is None


def test_symtab_gives_places_only_and_in_order():
    symbols = some_symbols(Layout.V7_0)
    table = read_symbol_table(elf(Kernel().elf(symtab=True)))
    assert table is not None
    assert len(table) == len(symbols)  # neither the section nor the file symbol
    for symbol in symbols:
        assert symbol.address in table.addresses(symbol.name)


def test_a_name_inside_another_is_not_taken_for_it():
    table = read_symbol_table(elf(Kernel().elf(symtab=True)))
    assert table is not None
    assert "unction_1" not in table


def test_stripped_file_has_no_symbol_table():
    assert read_symbol_table(elf(Kernel().elf())) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (write_elf([], machine=183), r"vmlinux\+0x12: an ELF file for aarch64; give a vmlinuz or"),
        (write_elf([], machine=3), r"vmlinux\+0x12: an ELF file for i386"),
        (write_elf([], machine=9999), r"vmlinux\+0x12: an ELF file for machine 9999"),
        (write_elf([], bits=1), r"vmlinux\+0x4: a 32-bit ELF file"),
        (write_elf([], kind=4), r"vmlinux\+0x10: a core dump, not a linked kernel"),
        (write_elf([], kind=1), r"vmlinux\+0x10: a relocatable object"),
        (write_elf([])[:40], r"vmlinux\+0x0: 64 bytes expected at 0x0, the data ends at 0x28"),
        (write_elf([])[:-1], r"vmlinux\+0x\w+: 128 bytes expected at"),
    ],
)
def test_foreign_and_truncated_files(data, message):
    with pytest.raises(KernelImageError, match=message):
        elf(data)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0x36, 55, r"\+0x36: malformed ELF headers: program headers of 55 bytes"),
        (0x3A, 63, r"\+0x3a: malformed ELF headers: section headers of 63 bytes"),
        (0x3E, 99, r"\+0x3e: malformed ELF headers: section name table index out of range"),
        (0x40 + 0x20, 0xFFFF, r"\+0x40: malformed ELF headers: a segment that ends after"),
        (0x40 + 0x28, 0, r"\+0x40: malformed ELF headers: a segment smaller in memory"),
    ],
)
def test_malformed_headers_say_where(offset, value, message):
    data = bytearray(write_elf([Part(".text", b"\x90" * 64, TEXT)]))
    struct.pack_into("<H", data, offset, value)
    with pytest.raises(KernelImageError, match=message):
        elf(bytes(data))


def extended(data: bytes, *, sections: int | None = None) -> bytes:
    """The same file with its numbers of sections where those stand that are too large."""
    offset, (count, names) = struct.unpack_from("<Q", data, 0x28)[0], data[0x3C:0x40:2]
    changed = bytearray(data)
    struct.pack_into("<HH", changed, 0x3C, 0, 0xFFFF)
    struct.pack_into("<Q", changed, offset + 0x20, count if sections is None else sections)
    struct.pack_into("<I", changed, offset + 0x28, names)
    return bytes(changed)


def test_more_sections_than_the_header_can_number():
    """System V ABI, ELF header, e_shnum; the file was taken for one without sections."""
    data = Kernel().elf(symtab=True)
    assert elf(extended(data)).sections[1:] == elf(data).sections[1:]
    assert elf(extended(data)).build_id() == BUILD_ID.hex()
    assert read_symbol_table(elf(extended(data))) is not None
    with pytest.raises(KernelImageError, match="malformed ELF headers: 4294967296 sections"):
        elf(extended(data, sections=1 << 32))


@pytest.mark.parametrize("stored", [0, 64])
def test_debug_information_apart_from_its_kernel_is_no_kernel(stored: int):
    """As openSUSE's kernel-*-debuginfo has it; its symbols are there, and its code is not.

    objcopy leaves nothing of a segment in the file, eu-strip what its kernel had.
    """
    text = Part(".text", bytes(stored), TEXT, kind=8, flags=6, executable=True, zeros=64 - stored)
    data = bytearray(write_elf([text, Part(".debug_info", b"x", flags=0)]))
    offset = struct.unpack_from("<Q", data, 0x28)[0]
    struct.pack_into("<Q", data, offset + 64 + 0x20, 64)  # the size of .text
    with pytest.raises(KernelImageError, match="separated from its kernel, without the code"):
        elf(bytes(data))

# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import gzip
import os
import re
import struct
import tempfile
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from staleline.errors import KernelImageError
from staleline.kernel.image.assembly import load_image
from tests.kernel.kernelwriter import (
    BANNER,
    BUILD_ID,
    PERCPU,
    RELEASE,
    RODATA,
    TEXT,
    Kernel,
    Layout,
    Part,
    sized,
    some_symbols,
    write_bzimage,
    write_elf,
)

ARM64_IMAGE = bytes(0x38) + b"ARM\x64" + bytes(64)


@pytest.fixture
def load(tmp_path):
    def _load(data: bytes):
        path = tmp_path / "vmlinuz"
        path.write_bytes(data)
        return load_image(path)

    return _load


def message(path: Path | str) -> str:
    with pytest.raises(KernelImageError) as error:
        load_image(path)
    return str(error.value)


def zstd_bzimage(elf: bytes) -> bytes:
    stream = zstandard.ZstdCompressor(write_content_size=False).compress(elf)
    return write_bzimage(sized(stream, len(elf)))


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("wrap", [bytes, zstd_bzimage, lambda elf: write_bzimage(sized(elf, 0))])
def test_every_layout_bare_compressed_and_uncompressed(load, layout, wrap):
    image = load(wrap(Kernel(layout).elf()))
    assert (image.release, image.banner, image.build_id) == (RELEASE, BANNER, BUILD_ID.hex())
    for symbol in some_symbols(layout):
        assert symbol.address in image.symbols.addresses(symbol.name)


def test_elf_symbols_serve_where_kallsyms_is_off(load):
    kernel = Kernel(kallsyms=False)
    assert load(kernel.elf(symtab=True)).symbols.address("function_1") == TEXT + 32


def test_neither_symbol_table_is_an_error(load, tmp_path):
    (tmp_path / "vmlinux").write_bytes(Kernel(kallsyms=False).elf())
    assert "neither an ELF symbol table nor kallsyms" in message(tmp_path / "vmlinux")


def test_read_by_link_address(load):
    image = load(Kernel().elf())
    assert image.read(RODATA, len(BANNER)).decode() == BANNER
    assert image.read(TEXT + 0x1FE, 4) == b"\xc3\xc3\0\0"  # the file ends, memory goes on
    assert image.read(TEXT, 0) == b""


@pytest.mark.parametrize(
    ("address", "size"),
    [(TEXT - 1, 1), (TEXT, 1 << 40), (0, 1), (-1, 1), (2**64, 1), (TEXT, -1)],
)
def test_reading_where_nothing_is(load, address, size):
    image = load(Kernel().elf())
    with pytest.raises(KernelImageError, match=f"no segment holds {size} bytes at"):
        image.read(address, size)


@pytest.mark.parametrize(("layout", "start"), [(Layout.V6_12, 0), (Layout.V6_16, PERCPU)])
def test_per_cpu_symbols_are_at_their_link_address(load, layout, start):
    """Linked at 0 in 6.12, in place in 6.16; the offset in a CPU's area is a difference."""
    image = load(Kernel(layout).elf())
    address = image.symbols.address("cpu_info")
    assert address == start + 0x40
    assert address - image.symbols.address("__per_cpu_start") == 0x40
    assert image.read(address, 2) == b"\x11\x11"
    assert image.sections[".data..percpu"].virtual_address == start


def test_sections_are_those_of_the_running_kernel(load):
    image = load(Kernel().elf(symtab=True))
    assert set(image.sections) == {".text", ".rodata", ".data..percpu", ".notes"}
    assert image.section_bytes(".text") == b"\xc3" * 0x200
    with pytest.raises(KernelImageError, match=r"no section \.altinstructions"):
        image.section_bytes(".altinstructions")


@pytest.mark.parametrize("layout", list(Layout))
def test_without_section_headers_the_segments_are_searched(load, layout):
    elf = bytearray(Kernel(layout).elf())
    elf[0x28:0x30], elf[0x3C:0x40] = bytes(8), bytes(4)  # e_shoff; e_shnum, e_shstrndx
    image = load(bytes(elf))
    assert (image.sections, image.build_id, image.banner) == ({}, None, BANNER)
    assert image.symbols.address("function_1") == TEXT + 32


def test_release_of_a_banner_that_is_not_one_comes_from_the_setup_header(load):
    image = load(zstd_bzimage(Kernel(banner="%s version %s").elf()))
    assert (image.release, image.banner) == (RELEASE, None)


def test_without_data_symbols_the_banner_is_searched(load):
    """CONFIG_KALLSYMS_ALL=n lists text symbols only, scripts/kallsyms.c symbol_valid()."""
    text = [s for s in some_symbols(Layout.V7_0) if s.name != "linux_banner"]
    image = load(Kernel(symbols=text, padding=b"Linux version %s (%s)\n\0").elf())
    assert (image.release, image.banner) == (RELEASE, BANNER)


def test_kallsyms_that_put_text_elsewhere_are_refused(load):
    symbols = [s for s in some_symbols(Layout.V7_0) if s.name != "_text"]
    with pytest.raises(KernelImageError, match="kallsyms has _text nowhere, the image starts at"):
        load(Kernel(symbols=symbols).elf())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "+0x0: empty file; copy it again"),
        (b"#!/bin/sh\n", "+0x0: not a kernel image; give a vmlinuz or vmlinux for x86-64"),
        (bytes(4096), "+0x0: not a kernel image; give a vmlinuz or vmlinux for x86-64"),
        (ARM64_IMAGE, "+0x38: a kernel for arm64; give a vmlinuz or vmlinux for x86-64"),
        (
            gzip.compress(b"x", mtime=0),
            " (unpacked)+0x0: not a kernel image; give a vmlinuz or vmlinux for x86-64",
        ),
        (b"MZ" + bytes(4096), "+0x202: a PE file with neither a Linux setup header nor a"),
        (write_elf([], machine=183), "+0x12: an ELF file for aarch64; give a vmlinuz or vmlinux"),
        (write_elf([Part(".text", b"\x90", 0x401000)]), ": an x86-64 ELF file, but no kernel"),
        (b"\x7fELF", "+0x0: 64 bytes expected at 0x0, the data ends at 0x4"),
        (write_bzimage()[:-1], "+0x248: payload at 0xa00 of"),
        (write_bzimage(b"\0" * 99), "+0xa00: payload of unknown compression"),
        (
            write_bzimage(gzip.compress(b"\x7fELF", mtime=0)),
            " (unpacked)+0x0: 64 bytes expected at 0x0",
        ),
    ],
)
def test_foreign_files_get_one_line_with_place_and_remedy(tmp_path, data, expected):
    path = tmp_path / "image"
    path.write_bytes(data)
    assert message(path).startswith(f"{path}{expected}")


def test_places_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert message(tmp_path).startswith(f"{tmp_path}: a directory without kernel (vmlinux, ")
    assert message(tmp_path / "fifo").startswith(f"{tmp_path}/fifo: is not a regular file")
    missing = tmp_path / "missing"
    assert message(missing) == f"{missing}: cannot be read: No such file or directory; " + (
        "check the path"
    )
    assert message("/proc/self/mem").count("\n") == 0


def test_a_program_of_this_machine_is_no_kernel():
    shell = os.path.realpath("/bin/sh")
    assert message(shell).startswith(f"{shell}: an x86-64 ELF file, but no kernel")


def test_segments_beyond_what_a_kernel_can_map(load):
    part = Part(".text", b"\x90", TEXT, zeros=1 << 40)
    with pytest.raises(KernelImageError, match=r"segments of \d+ bytes in memory, the limit"):
        load(write_elf([part]))


@pytest.mark.parametrize(
    ("address", "kind"), [(TEXT + 0x800, "virtual"), (TEXT + 0x800 + (1 << 24), "physical")]
)
def test_two_segments_at_one_place(load, address, kind):
    """The emulated machine had the bytes of the last one, and the list of WBINVDs the first's."""
    parts = [Part(".text", b"\x90" * 0x1000, TEXT), Part(".data", b"\xc3" * 16, address)]
    with pytest.raises(KernelImageError, match=f"two segments at {kind} address"):
        load(write_elf(parts))


@pytest.mark.parametrize(("what", "place"), [("a segment", 0), ("section '.data'", -1)])
def test_what_reaches_beyond_the_last_address(load, what, place):
    """Found by changing bytes of small images: such an end became a symbol's address."""
    parts = [Part(".text", b"\x90", TEXT), Part(".data", bytes(0x2000), RODATA)]
    pieces = write_elf(parts).split(struct.pack("<Q", RODATA))
    last = struct.pack("<Q", (1 << 64) - 0x1000)
    addresses = [struct.pack("<Q", RODATA)] * (len(pieces) - 1)
    addresses[place] = last
    image = pieces[0] + b"".join(a + piece for a, piece in zip(addresses, pieces[1:], strict=True))
    with pytest.raises(KernelImageError, match=f"{what} of 0x2000 bytes at 0xf+000, which"):
        load(image)


def test_debug_information_is_not_read(tmp_path):
    size = 600 << 20
    data = Kernel().elf(symtab=True)
    path = tmp_path / "vmlinux"
    path.write_bytes(_with_sparse_section(data, size))
    os.truncate(path, len(data) + size)
    tracemalloc.start()
    try:
        assert load_image(path).symbols.address("_text") == TEXT
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def _with_sparse_section(elf: bytes, size: int) -> bytes:
    """The last section but one is made a big one that starts where the file ended."""
    ours = bytearray(elf)
    (table,) = struct.unpack_from("<Q", ours, 0x28)
    count, _ = struct.unpack_from("<HH", ours, 0x3C)
    at = table + 64 * count
    ours += struct.pack("<IIQQQQIIQQ", 0, 1, 0, 0, len(elf), size, 0, 0, 1, 0)
    struct.pack_into("<H", ours, 0x3C, (at - table) // 64 + 1)
    return bytes(ours)


def test_a_file_one_may_not_read(tmp_path):
    path = tmp_path / "vmlinuz"
    path.write_bytes(zstd_bzimage(Kernel().elf()))
    path.chmod(0)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setuid(65534)
        os.write(writing, outcome(str(path)).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        assert pipe.read() == (
            f"{path}: cannot be read: Permission denied; "
            "make it readable or run as a user who may read it"
        )
    os.waitpid(child, 0)


def mutated(draw: st.DataObject, image: bytes) -> bytes:
    """Some bytes or fields of the headers replaced, and perhaps the end cut off."""
    blob = bytearray(image)
    for _ in range(draw.draw(st.integers(1, 5))):
        width, code = draw.draw(st.sampled_from([(1, "<B"), (2, "<H"), (4, "<I"), (8, "<Q")]))
        near_start = st.integers(0, min(0x300, len(blob) - width))
        near_end = st.integers(max(0, len(blob) - 0x240), len(blob) - width)
        at = draw.draw(near_start | near_end | st.integers(0, len(blob) - width))
        top = (1 << 8 * width) - 1
        value = draw.draw(st.sampled_from([0, 1, top >> 1, top, top - 7]) | st.integers(0, top))
        struct.pack_into(code, blob, at, value)
    return bytes(blob[: draw.draw(st.just(len(blob)) | st.integers(0, len(blob)))])


IMAGES = [Kernel(Layout.V6_12).elf(), Kernel(Layout.V7_0).elf(symtab=True)]
IMAGES += [zstd_bzimage(IMAGES[0]), write_bzimage(sized(IMAGES[0], len(IMAGES[0])))]


def outcome(path: str) -> str:
    """Load, and use, whatever the file is."""
    try:
        image = load_image(path)
        for name in image.sections:
            image.section_bytes(name)
    except KernelImageError as error:
        return str(error)
    for address in (0, TEXT, RODATA + 3):
        image.symbols.enclosing(address)
    return "loaded"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(IMAGES), st.data())
def test_mutated_headers_give_an_image_or_one_line(image, data):
    with tempfile.NamedTemporaryFile() as file:
        file.write(mutated(data, image))
        file.flush()
        assert re.fullmatch(r"loaded|/[^\n]+: [^\n]+; [^\n]+", outcome(file.name))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Images made to exhaust memory or time: each ends soon, in one line, and under 500 MB."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import lz4.block
import numpy as np
import pytest

from staleline.errors import KernelImageError
from staleline.kernel.file.archives import unpacked_part
from staleline.kernel.file.container import unpack_kernel
from staleline.kernel.file.decompress import MAX_UNPACKED
from staleline.kernel.file.source import MemoryBytes
from tests.kernel.kernelwriter import (
    RODATA,
    TEXT,
    Part,
    Symbol,
    sized,
    symbol_table,
    write_bzimage,
    write_elf,
)
from tests.kernel.packagewriter import VMLINUZ, File, ar, tar, write_deb, write_lzop, write_rpm

SECONDS = 20
MEMORY_MB = 500
PIECE = 8 << 20
BOMB = 4 << 30
LARGE = 256 << 20  # where a bomb of 4 GB takes long to make
LOAD = """
import re, sys
from staleline.errors import KernelImageError
from staleline.kernel.image.assembly import load_image
try:
    load_image(sys.argv[1])
    print("loaded")
except KernelImageError as error:
    print(error)
status = open("/proc/self/status").read()
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024)
"""


def load(path: Path) -> tuple[str, int]:
    """What a process of its own says of an image, and its highest memory in MB."""
    command = [sys.executable, "-c", LOAD, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.stderr == ""
    text, memory = done.stdout.splitlines()
    return text, int(memory)


def lzma_bomb(form: int) -> bytes:
    encoder, out = lzma.LZMACompressor(form, preset=0), bytearray()
    for _ in range(LARGE // PIECE):
        out += encoder.compress(bytes(PIECE))
    return bytes(out + encoder.flush())


def bzip2_bomb() -> bytes:
    encoder, out = bz2.BZ2Compressor(9), bytearray()
    for _ in range(LARGE // PIECE):
        out += encoder.compress(bytes(PIECE))
    return bytes(out + encoder.flush())


def gzip_bomb() -> bytes:
    """A deflate stream flushed after each piece repeats itself."""
    encoder = zlib.compressobj(9, wbits=-15)
    piece = encoder.compress(bytes(PIECE)) + encoder.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"", mtime=0)[:10] + piece * (BOMB // PIECE)


def zstd_bomb(window: int = 0x70) -> bytes:
    """Blocks of one byte repeated 128 KiB times: RFC 8878, 3.1.1.2; 0x70 is 16 MiB."""
    block = (128 << 10 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\0" + bytes([window]) + block * (BOMB >> 17)


def lz4_bomb() -> bytes:
    block: bytes = lz4.block.compress(bytes(8 << 20), store_size=False)
    return struct.pack("<I", 0x184C2102) + (struct.pack("<I", len(block)) + block) * (BOMB >> 23)


def lzo_bomb() -> bytes:
    one = write_lzop(bytes(256 << 10))
    empty = len(write_lzop(b"")) - 4
    return one[:empty] + one[empty:-4] * (BOMB >> 18) + bytes(4)


BOMBS: dict[str, Callable[[], bytes]] = {
    "zstd": zstd_bomb,
    "lz4": lz4_bomb,
    "lzo": lzo_bomb,
    "gzip": gzip_bomb,
    "xz": partial(lzma_bomb, lzma.FORMAT_XZ),
    "lzma": partial(lzma_bomb, lzma.FORMAT_ALONE),
    "bzip2": bzip2_bomb,
}


@pytest.fixture(scope="module")
def bomb() -> Callable[[str], bytes]:
    return cache(lambda method: BOMBS[method]())


def require_one_line(path: Path, expected: str) -> None:
    text, memory = load(path)
    assert re.search(expected, text), text
    assert re.fullmatch(r"[^\n]+: [^\n]+; [^\n]+", text)
    assert memory < MEMORY_MB


@pytest.mark.parametrize("method", BOMBS)
def test_a_bomb_in_a_bzimage_stops_at_the_largest_claim(tmp_path, bomb, method):
    stream = bomb(method)
    path = tmp_path / "vmlinuz"
    path.write_bytes(write_bzimage(sized(stream, MAX_UNPACKED)))
    require_one_line(path, f"damaged {method} payload: |is \\d+ of")


@pytest.mark.parametrize("method", ["zstd", "gzip", "xz", "bzip2"])
def test_a_bomb_in_a_package_stops_at_its_ratio(tmp_path, bomb, method):
    """4 GB of zeros are no archive, or end one, behind which nothing may lie."""
    (tmp_path / "p.rpm").write_bytes(write_rpm([], compression="")[:-124] + bomb(method))
    require_one_line(tmp_path / "p.rpm", "damaged cpio archive")
    (tmp_path / "p.deb").write_bytes(ar([("data.tar", bomb(method))]))
    require_one_line(tmp_path / "p.deb", "unpacks to more than")


def test_a_large_file_before_the_image_stops_at_the_ratio(tmp_path):
    header = bytearray(tar([File("usr/lib/big")])[:512])
    header[124:136] = b"37777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    encoder = zlib.compressobj(9, wbits=31)
    start = encoder.compress(bytes(header)) + encoder.flush(zlib.Z_FULL_FLUSH)
    piece = encoder.compress(bytes(PIECE)) + encoder.flush(zlib.Z_FULL_FLUSH)
    (tmp_path / "p.deb").write_bytes(ar([("data.tar.gz", start + piece * (BOMB // PIECE))]))
    require_one_line(tmp_path / "p.deb", r"\+0x44: unpacks to more than \d+ bytes")


def test_a_bomb_in_an_image_in_a_package(tmp_path, bomb):
    image = write_bzimage(sized(bomb("zstd"), MAX_UNPACKED))
    (tmp_path / "p.deb").write_bytes(write_deb([File(VMLINUZ, image)], compression="zst"))
    require_one_line(tmp_path / "p.deb", "damaged zstd payload")


def test_a_stream_is_bounded_by_its_limit_too():
    packed = gzip.compress(bytes(1 << 20), mtime=0)
    stream = unpacked_part(MemoryBytes("p", memoryview(packed)), 0, len(packed), limit=1 << 19)
    with pytest.raises(KernelImageError, match=r"p\+0x0: unpacks to more than 0 bytes"):
        stream.read(1 << 20)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x5d" + struct.pack("<IQ", 0xFFFF_0000, 1 << 40) + bytes(99),  # a dictionary of 4 GiB
        zstd_bomb(window=0xA8)[: 1 << 16],  # a window of 2 GiB
    ],
)
@pytest.mark.parametrize("package", [True, False])
def test_a_stream_that_asks_for_a_dictionary_of_gigabytes(tmp_path, stream, package):
    path = tmp_path / "image"
    packed = ar([("data.tar", stream)])
    path.write_bytes(packed if package else write_bzimage(sized(stream, MAX_UNPACKED)))
    require_one_line(path, "damaged")


def elf(rodata: bytes, *others: Part) -> bytes:
    text = Part(".text", b"\xc3" * 64, TEXT, executable=True, zeros=1 << 20)
    return write_elf([text, Part(".rodata", rodata, RODATA + (1 << 20)), *others])


DIGITS = b"\0".join(b"%d" % digit for digit in range(10)) + b"\0"
DATA = 64 << 20
HOSTILE_TABLES: dict[str, Callable[[], bytes]] = {
    "digits everywhere": lambda: DIGITS * (DATA // len(DIGITS)),
    "digits before nothing": lambda: (DIGITS + bytes(236)) * (DATA >> 8),
    "banners": lambda: b"Linux version 1 (" * (DATA >> 4),
    "ascending words": lambda: np.arange(DATA >> 2, dtype="<u4").tobytes(),
    "markers and counts": lambda: np.tile(
        np.arange(0, 1 << 16, 256, dtype="<u4"), DATA >> 10
    ).tobytes(),
}


@pytest.mark.parametrize("name", HOSTILE_TABLES)
def test_read_only_data_that_looks_like_tables(tmp_path, name):
    (tmp_path / "vmlinux").write_bytes(elf(HOSTILE_TABLES[name]()))
    require_one_line(tmp_path / "vmlinux", "neither an ELF symbol table nor kallsyms")


def test_a_million_symbols_of_one_name(tmp_path):
    """Read, or refused; not slowly."""
    table, strings = symbol_table([Symbol("same", TEXT)] * (1 << 20))
    parts = [Part(".symtab", table, kind=2, flags=0, link=4), Part(".strtab", b"\0a\0", kind=3)]
    assert len(strings) > 1 << 20
    (tmp_path / "vmlinux").write_bytes(elf(b"", *parts))
    text, memory = load(tmp_path / "vmlinux")
    assert text
    assert memory < MEMORY_MB


def test_sections_of_a_sparse_file(tmp_path):
    """A symbol table and names of gigabytes that take no room on the disk."""
    data = bytearray(elf(b"", Part(".symtab", b"", kind=2, link=4), Part(".strtab", b"", kind=3)))
    (headers,) = struct.unpack_from("<Q", data, 0x28)
    for section in (3, 4):
        struct.pack_into("<QQ", data, headers + 64 * section + 0x18, len(data), 8 << 30)
    path = tmp_path / "vmlinux"
    path.write_bytes(data)
    os.truncate(path, 9 << 30)
    require_one_line(path, "section .symtab of 8589934592 bytes, the limit is")


def test_segments_that_repeat_the_file(tmp_path):
    data = bytearray(elf(bytes(32 << 20)))
    count, entry = 60, bytes(data[64 + 56 : 64 + 112])
    (headers,) = struct.unpack_from("<Q", data, 0x28)
    struct.pack_into("<QH", data, 0x20, len(data), 0)
    struct.pack_into("<H", data, 0x38, count)
    path = tmp_path / "vmlinux"
    path.write_bytes(bytes(data) + entry * count)
    assert headers
    require_one_line(path, "segments of 2013265920 bytes in ")


@pytest.mark.parametrize("text", [b"Linux version 1 (", b"Linux version 1!!!!!!!!"])
def test_what_begins_like_a_banner_very_often_is_told_soon(text):
    """Each was tried to the end of its piece, which took hours."""
    started = time.process_time()
    with pytest.raises(KernelImageError, match="not a kernel image"):
        unpack_kernel(MemoryBytes("memory", memoryview(text * (PIECE // len(text)))))
    assert time.process_time() - started < SECONDS

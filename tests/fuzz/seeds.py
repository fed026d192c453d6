# SPDX-License-Identifier: GPL-2.0-or-later
"""Small images and packages to start fuzzing from: every layout, compression and wrapping."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable, Iterator

import lz4.block
import zstandard

from tests.kernel.kernelwriter import (
    PERCPU,
    RODATA,
    TEXT,
    Kernel,
    Layout,
    Symbol,
    sized,
    some_symbols,
    write_bzimage,
    write_kallsyms,
)
from tests.kernel.packagewriter import VMLINUZ, File, write_deb, write_lzop, write_rpm, write_uki

__all__ = ["SEEDS"]

Seeds = Iterator[tuple[str, bytes]]
_SYMBOLS = 280  # more than one chunk of 256
_STOP_THIS_CPU = bytes.fromhex("f0480fb31d00000100c3").ljust(0x200, b"\xc3")  # lock btr


def _kernel(layout: Layout) -> Kernel:
    return Kernel(layout, some_symbols(layout, _SYMBOLS))


def _lz4(data: bytes) -> bytes:
    block: bytes = lz4.block.compress(data, store_size=False)
    return struct.pack("<2I", 0x184C2102, len(block)) + block


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "lz4": _lz4,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "lzo": write_lzop,
    "none": lambda data: data,
}


def _images() -> Seeds:
    for layout in Layout:
        yield f"elf-{layout.value}", _kernel(layout).elf()
    yield "elf-symtab", _kernel(Layout.V7_0).without_kallsyms().elf(symtab=True)
    for layout in (Layout.V5_10, Layout.V7_0):
        functions = [s for s in some_symbols(layout, _SYMBOLS) if s.name != "linux_banner"]
        functions.append(Symbol("stop_this_cpu", TEXT))
        exports = (Symbol("boot_cpu_data", RODATA), Symbol("cpu_number", PERCPU))
        kernel = Kernel(layout, functions, exports=exports, text=_STOP_THIS_CPU)
        yield f"elf-functions-{layout.value}", kernel.elf()
    elf = _kernel(Layout.V7_0).elf()
    for name, compress in _COMPRESS.items():
        yield f"bzimage-{name}", write_bzimage(sized(compress(elf), len(elf)))
    bzimage = write_bzimage(gzip.compress(elf, 1, mtime=0))
    yield "bzimage-gzip", bzimage
    yield "uki", write_uki(bzimage)
    yield "deb", write_deb([File(VMLINUZ, bzimage)])
    yield "rpm", write_rpm([File(VMLINUZ, bzimage)])


def _tables() -> Seeds:
    for layout in Layout:
        for alignment in (4, 8):
            symbols = some_symbols(layout, _SYMBOLS)
            tables = write_kallsyms(symbols, layout, RODATA, alignment=alignment)
            yield f"{layout.value}-{alignment}", tables


def _packages() -> Seeds:
    files = [File("boot/config", b"# c\n"), File(VMLINUZ, b"image" * 9), File("l", target="x")]
    long = [File("usr/lib/modules/" + "long" * 40 + "/vmlinuz", b"image")]
    for compression in ("", "xz", "zst", "gz", "bz2"):
        for listed in (True, False):
            name = f"{compression or 'plain'}-{'listed' if listed else 'unlisted'}"
            yield f"deb-{name}", write_deb(files, compression=compression, md5sums=listed)
            yield f"rpm-{name}", write_rpm(files, compression=compression, listed=listed)
    yield "deb-long", write_deb(long, compression="")
    yield "deb-pax", write_deb(long, compression="", style=2)
    yield "deb-two", write_deb([*files, *long], compression="", md5sums=False)


SEEDS: dict[str, Callable[[], Seeds]] = {
    "loader": _images,
    "kallsyms": _tables,
    "package": _packages,
}

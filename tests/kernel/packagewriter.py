# SPDX-License-Identifier: GPL-2.0-or-later
"""Writers of small packages: .deb, .rpm and unified kernel images, by the book.

They follow deb(5), ar(5), tar(5), cpio(5), the rpm manual's "Package format" and
Microsoft's "PE Format", and share no code with the readers.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lzallright
import zstandard

VMLINUZ = "boot/vmlinuz-6.99.1-test-amd64"

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
    "gz": lambda data: gzip.compress(data, 1, mtime=0),
    "bz2": lambda data: bz2.compress(data, 1),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "": lambda data: data,
}


@dataclass(frozen=True)
class File:
    """One file of a package; `target` makes it a symbolic link, `ghost` an absent one."""

    name: str
    content: bytes = b""
    target: str = ""
    ghost: bool = False

    @property
    def mode(self) -> int:
        return 0o120777 if self.target else 0o100644


def tar(files: Sequence[File], style: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as archive:
        for file in files:
            entry = tarfile.TarInfo("./" + file.name)
            if file.target:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.target
            entry.size = len(file.content)
            archive.addfile(entry, io.BytesIO(file.content))
    return out.getvalue()


def ar(parts: Sequence[tuple[str, bytes]]) -> bytes:
    blob = bytearray(b"!<arch>\n")
    for name, content in parts:
        blob += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        blob += content + b"\n" * (len(content) % 2)
    return bytes(blob)


def write_deb(
    files: Sequence[File],
    *,
    compression: str = "xz",
    md5sums: bool = True,
    style: int = tarfile.GNU_FORMAT,
) -> bytes:
    listed = "".join(f"{0:032x}  {file.name}\n" for file in files if not file.target)
    control = [File("control", b"Package: p\n")]
    control += [File("md5sums", listed.encode())] if md5sums else []
    suffix = f".{compression}" if compression else ""
    compress = COMPRESSORS[compression]
    return ar(
        [
            ("debian-binary", b"2.0\n"),
            (f"control.tar{suffix}", compress(tar(control))),
            (f"data.tar{suffix}", compress(tar(files, style))),
        ]
    )


def cpio(files: Sequence[File], magic: str = "070701") -> bytes:
    blob = bytearray()
    for number, file in enumerate([*files, File("TRAILER!!!")]):
        content = file.target.encode() or file.content
        name = file.name if file.name == "TRAILER!!!" else f"./{file.name}"
        fields = [number, file.mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        blob += magic.encode() + "".join(f"{field:08x}" for field in fields).encode()
        blob += name.encode() + b"\0"
        blob += bytes(-len(blob) % 4) + content
        blob += bytes(-len(blob) % 4)
    return bytes(blob)


def stripped_cpio(files: Sequence[File]) -> bytes:
    """Members by their numbers in the package's list, as rpm lib/cpio.c writes them."""
    blob = bytearray()
    for number, file in enumerate(files):
        if not file.ghost:
            blob += f"07070X{number:08x}".encode()
            blob += bytes(-len(blob) % 4) + (file.target.encode() or file.content)
            blob += bytes(-len(blob) % 4)
    return bytes(blob) + cpio([])


_INT16, _INT32, _STRING, _STRINGS = 3, 4, 6, 8


def rpm_header(entries: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    """A header structure of (tag, type, count, data) entries."""
    index, data = bytearray(), bytearray()
    for tag, kind, count, content in entries:
        data += bytes(-len(data) % {_INT16: 2, _INT32: 4}.get(kind, 1))
        index += struct.pack(">4I", tag, kind, len(data), count)
        data += content
    return (
        b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">2I", len(entries), len(data)) + index + data
    )


def file_list(files: Sequence[File]) -> list[tuple[int, int, int, bytes]]:
    """The entries that name the files: modes, flags, directories."""
    paths = [f"/{file.name}".rpartition("/") for file in files]
    directories = sorted({directory + "/" for directory, _, _ in paths})
    count = len(files)
    modes = struct.pack(f">{count}H", *(file.mode for file in files))
    flags = struct.pack(f">{count}I", *(file.ghost << 6 for file in files))
    indexes = struct.pack(f">{count}I", *(directories.index(d + "/") for d, _, _ in paths))
    names = "".join(f"{name}\0" for _, _, name in paths).encode()
    sizes = struct.pack(f">{count}I", *(len(file.target or file.content) for file in files))
    return [
        (1028, _INT32, count, sizes),
        (1030, _INT16, count, modes),
        (1037, _INT32, count, flags),
        (1116, _INT32, count, indexes),
        (1117, _STRINGS, count, names),
        (1118, _STRINGS, len(directories), "".join(f"{d}\0" for d in directories).encode()),
    ]


def write_rpm(
    files: Sequence[File],
    *,
    compression: str = "zst",
    listed: bool = True,
    stripped: bool = False,
) -> bytes:
    lead = struct.pack(">4s2B2H66s2H16x", b"\xed\xab\xee\xdb", 3, 0, 0, 1, b"p", 1, 5)
    signature = rpm_header([(1000, _INT32, 1, bytes(4)), (1004, _STRING, 1, b"odd\0")])
    blob = lead + signature
    blob += bytes(-len(blob) % 8)
    blob += rpm_header([(1000, _STRING, 1, b"p\0"), *(file_list(files) if listed else [])])
    kept = [file for file in files if not file.ghost]
    return blob + COMPRESSORS[compression](stripped_cpio(files) if stripped else cpio(kept))


def write_uki(linux: bytes, name: bytes = b".linux", *more: tuple[bytes, bytes]) -> bytes:
    """A PE file of two sections, the second of which is the kernel, and more behind it."""
    sections = [(b".text", b"\xc3" * 16), (name, linux), *more]
    start = 0x400
    table, content = bytearray(), bytearray()
    for label, data in sections:
        at = start + len(content)
        table += struct.pack("<8s4I16x", label, len(data), 0x1000, len(data), at)
        content += data
    header = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    header += struct.pack("<4s2H12x2H", b"PE\0\0", 0x8664, len(sections), 0x20, 0) + bytes(0x20)
    return bytes((header + table).ljust(start, b"\0") + content)


def write_lzop(
    data: bytes, *, block: int = 256 << 10, name: bytes = b"", old: bool = False
) -> bytes:
    """As lzop writes it to a pipe: flags ADLER32_D, version 1.04 or one before mtime_high."""
    version = 0x0930 if old else 0x1040
    blob = bytearray(b"\x89LZO\0\r\n\x1a\n" + struct.pack(">HHHB", version, 0x20A0, 0x0940, 3))
    blob += b"" if old else b"\x09"
    blob += struct.pack(">III", 1, 0o100644, 0) + (b"" if old else bytes(4))
    blob += bytes([len(name)]) + name + bytes(4)
    for start in range(0, len(data), block):
        plain = data[start : start + block]
        packed = lzallright.LZOCompressor().compress(plain)
        packed = packed if len(packed) < len(plain) else plain
        blob += struct.pack(">III", len(plain), len(packed), 0) + packed
    return bytes(blob + bytes(4))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Writers of small kernel images: ELF files, kallsyms tables and bzImages, by the book.

They follow scripts/kallsyms.c, elf(5) and Documentation/arch/x86/boot.rst and share no
code with the readers.
"""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

TEXT = 0xFFFF_FFFF_8100_0000
RODATA = TEXT + 0x10_0000
KSYMTAB = TEXT + 0x18_0000
PERCPU = TEXT + 0x20_0000
PERCPU_SIZE = 0x1000
RELEASE = "6.99.1-test-amd64"
BANNER = f"Linux version {RELEASE} (someone@example.org) (gcc 14) #1 SMP 2026-01-01"
BUILD_ID = bytes(range(20))


@dataclass(frozen=True)
class Symbol:
    name: str
    address: int
    kind: str = "T"


class Layout(Enum):
    """Order and encoding of the kallsyms tables, by the first release that has it."""

    V5_10 = "5.10"
    V6_1 = "6.1"
    V6_12 = "6.12"
    V6_16 = "6.16"
    V7_0 = "7.0"

    @property
    def zero_based_percpu(self) -> bool:
        return self in (Layout.V5_10, Layout.V6_1, Layout.V6_12)


# Free codes (no name has these characters) stand for frequent texts, as in a real table.
_COMPOUND = {0x01: "Tfunction_", 0x02: "unction_", 0x03: "tlong_", 0x04: "init", 0xFF: "_1"}
_PAIRS = [
    "__",
    "_s",
    "re",
    "er",
    "in",
    "on",
    "st",
    "te",
    "et",
    "_p",
    "le",
    "at",
    "or",
    "_c",
    "de",
    "_d",
    "se",
    "_i",
    "en",
    "an",
    "io",
    "tr",
    "_f",
    "ac",
    "al",
    "_r",
    "_t",
]
_COMPOUND |= dict(enumerate(_PAIRS, 0x80))


def tokens() -> list[str]:
    """256 texts: each printable character for itself, the compound ones, the rest unused."""
    table = [chr(code) if 0x20 <= code < 0x7F else "" for code in range(256)]
    for code, text in _COMPOUND.items():
        table[code] = text
    return table


_TOKEN_CODES = {text: code for code, text in enumerate(tokens()) if text}
_TOKEN = re.compile("|".join(map(re.escape, sorted(_TOKEN_CODES, key=len, reverse=True))))


def compress(text: str) -> bytes:
    """Token numbers of a text, the longest token first."""
    return bytes(_TOKEN_CODES[token] for token in _TOKEN.findall(text))


def _align(blob: bytearray, alignment: int) -> None:
    blob += bytes(-len(blob) % alignment)


def write_kallsyms(
    symbols: Sequence[Symbol], layout: Layout, at: int, *, alignment: int = 8
) -> bytes:
    """The tables as the linker places them at address `at` (a multiple of 8)."""
    symbols = sorted(symbols, key=lambda symbol: symbol.address)
    blob = bytearray()
    if layout in (Layout.V5_10, Layout.V6_1):
        _put_offsets(blob, symbols, layout, at)
        _align(blob, 8)
    blob += struct.pack("<I", len(symbols))
    _align(blob, alignment)
    markers = _put_names(blob, symbols)
    _align(blob, alignment)
    blob += struct.pack(f"<{len(markers)}I", *markers)
    if layout is Layout.V6_1:
        _align(blob, alignment)
        _put_sequence(blob, symbols)
    _align(blob, alignment)
    _put_tokens(blob, alignment)
    if layout not in (Layout.V5_10, Layout.V6_1):
        _align(blob, alignment)
        _put_offsets(blob, symbols, layout, at)
        _align(blob, alignment)
        _put_sequence(blob, symbols)
    return bytes(blob)


def _put_names(blob: bytearray, symbols: Sequence[Symbol]) -> list[int]:
    start, markers = len(blob), []
    for index, symbol in enumerate(symbols):
        if index % 256 == 0:
            markers.append(len(blob) - start)
        codes = compress(symbol.kind + symbol.name)
        length = len(codes)
        blob += bytes([length]) if length < 0x80 else bytes([length & 0x7F | 0x80, length >> 7])
        blob += codes
    return markers


def write_markers(symbols: Sequence[Symbol]) -> bytes:
    """The bytes of the markers alone, to find them in the tables."""
    ascending = sorted(symbols, key=lambda symbol: symbol.address)
    markers = _put_names(bytearray(), ascending)
    return struct.pack(f"<{len(markers)}I", *markers)


def write_token_index() -> bytes:
    """The bytes of the token index alone."""
    offsets, offset = [], 0
    for text in tokens():
        offsets.append(offset)
        offset += len(text) + 1
    return struct.pack("<256H", *offsets)


def _put_tokens(blob: bytearray, alignment: int) -> None:
    for text in tokens():
        blob += text.encode() + b"\0"
    _align(blob, alignment)
    blob += write_token_index()


def _put_sequence(blob: bytearray, symbols: Sequence[Symbol]) -> None:
    for index in sorted(range(len(symbols)), key=lambda index: symbols[index].name):
        blob += index.to_bytes(3, "big")


def _put_offsets(blob: bytearray, symbols: Sequence[Symbol], layout: Layout, at: int) -> None:
    base = min(symbol.address for symbol in symbols if symbol.address >= TEXT)
    for symbol in symbols:
        if layout is Layout.V7_0:
            offset = symbol.address - (at + len(blob))
        elif layout is Layout.V6_16:
            offset = symbol.address - base
        else:
            absolute = symbol.address < TEXT
            offset = symbol.address if absolute else base - 1 - symbol.address
        blob += struct.pack("<i", offset)
    if layout is not Layout.V7_0:
        _align(blob, 8)
        blob += struct.pack("<Q", base)


@dataclass(frozen=True)
class Part:
    """One section, which is also a segment if it has an address."""

    name: str
    data: bytes
    address: int | None = None
    kind: int = 1
    flags: int = 2
    link: int = 0
    executable: bool = False
    zeros: int = 0


def write_elf(parts: Sequence[Part], *, machine: int = 62, bits: int = 2, kind: int = 2) -> bytes:
    """An ELF64 file: header, program headers, contents, section headers."""
    loads = [part for part in parts if part.address is not None]
    blob = bytearray(64 + 56 * len(loads))
    names = bytearray(b"\0")
    programs, sections = [], [bytes(64)]
    for part in (*parts, Part(".shstrtab", b"", kind=3, flags=0)):
        _align(blob, 16)
        name = len(names)
        names += part.name.encode() + b"\0"
        data = bytes(names) if part.name == ".shstrtab" else part.data
        sections.append(
            struct.pack(
                "<IIQQQQIIQQ", name, part.kind, part.flags, part.address or 0, len(blob),
                len(data), part.link, 0, 1, 24 if part.kind == 2 else 0,
            )
        )  # fmt: skip
        if part.address is not None:
            flags = 5 if part.executable else 6
            # What is linked at 0, per-CPU variables, is loaded behind all else.
            beyond = 0 if part.address >> 63 else 1 << 26
            physical = part.address % (1 << 24) + (1 << 24) + beyond
            size = len(data)
            programs.append(
                struct.pack(
                    "<IIQQQQQQ", 1, flags, len(blob), part.address, physical,
                    size, size + part.zeros, 16,
                )
            )  # fmt: skip
        blob += data
    _align(blob, 8)
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9)
    struct.pack_into(
        "<16sHHIQQQIHHHHHH", blob, 0, ident, kind, machine, 1, 0, 64, len(blob), 0, 64,
        56, len(programs), 64, len(sections), len(sections) - 1,
    )  # fmt: skip
    blob[64 : 64 + 56 * len(programs)] = b"".join(programs)
    return bytes(blob) + b"".join(sections)


def note(owner: bytes, kind: int, content: bytes) -> bytes:
    owner += b"\0"
    head = struct.pack("<III", len(owner), len(content), kind)
    return head + owner.ljust(-(-len(owner) // 4) * 4, b"\0") + content


def symbol_table(symbols: Sequence[Symbol]) -> tuple[bytes, bytes]:
    """Contents of ``.symtab`` and ``.strtab``, with a section and a file symbol first."""
    strings = bytearray(b"\0file.c\0")
    entries = [bytes(24), struct.pack("<IBBHQQ", 0, 3, 0, 1, TEXT, 0)]
    entries.append(struct.pack("<IBBHQQ", 1, 4, 0, 0xFFF1, 0, 0))
    for symbol in symbols:
        entries.append(struct.pack("<IBBHQQ", len(strings), 0x12, 0, 1, symbol.address, 4))
        strings += symbol.name.encode() + b"\0"
    return b"".join(entries), bytes(strings)


def some_symbols(layout: Layout, count: int = 700) -> list[Symbol]:
    """Functions 16 bytes apart, per-CPU variables, two of one name, one very long name."""
    percpu = 0 if layout.zero_based_percpu else PERCPU
    return [
        Symbol("_text", TEXT),
        Symbol("_stext", TEXT),
        *(Symbol(f"function_{n}", TEXT + 16 * (n + 1)) for n in range(count)),
        Symbol("duplicate", TEXT + 0x9_0000, "t"),
        Symbol("duplicate", TEXT + 0x9_0100, "t"),
        Symbol("long_" + "x" * 200, TEXT + 0x9_0200, "t"),
        Symbol("linux_banner", RODATA, "D"),
        Symbol("__per_cpu_start", percpu, "D" if percpu else "A"),
        Symbol("cpu_info", percpu + 0x40, "D" if percpu else "A"),
    ]


def write_ksymtab(exports: Sequence[Symbol], at: int) -> tuple[bytes, bytes]:
    """Contents of ``__ksymtab`` at `at`, and of ``__ksymtab_strings`` right behind it."""
    entries, strings = bytearray(), bytearray()
    for symbol in exports:
        place = at + len(entries)
        text = at + 12 * len(exports) + len(strings)
        entries += struct.pack("<3i", symbol.address - place, text - place - 4, 0)
        strings += symbol.name.encode() + b"\0"
    return bytes(entries), bytes(strings)


@dataclass(frozen=True)
class Kernel:
    """A small kernel: code, read-only data with banner and kallsyms, per-CPU data, notes."""

    layout: Layout = Layout.V7_0
    symbols: Sequence[Symbol] = field(default_factory=list)
    alignment: int = 8
    banner: str = BANNER
    kallsyms: bool = True
    padding: bytes = b""
    exports: Sequence[Symbol] = ()
    text: bytes = b"\xc3" * 0x200

    def elf(self, *, symtab: bool = False) -> bytes:
        symbols = self.symbols or some_symbols(self.layout)
        rodata = self.banner.encode() + b"\n\0" + self.padding
        rodata = rodata.ljust(-(-len(rodata) // 8) * 8, b"\0")
        if self.kallsyms:
            at = RODATA + len(rodata)
            rodata += write_kallsyms(symbols, self.layout, at, alignment=self.alignment)
        percpu = 0 if self.layout.zero_based_percpu else PERCPU
        parts = [
            Part(
                ".text",
                self.text,
                TEXT,
                flags=6,
                executable=True,
                zeros=0x9_0500 - len(self.text),
            ),
            Part(".rodata", rodata, RODATA),
            Part(".data..percpu", b"\x11" * 0x80, percpu, flags=3, zeros=PERCPU_SIZE - 0x80),
            Part(".notes", note(b"GNU", 3, BUILD_ID), kind=7),
        ]
        if self.exports:
            entries, strings = write_ksymtab(self.exports, KSYMTAB)
            parts.append(Part("__ksymtab", entries, KSYMTAB))
            parts.append(Part("__ksymtab_strings", strings, KSYMTAB + len(entries)))
        if symtab:
            at = len(parts) + 2
            table, strings = symbol_table(symbols)
            parts += [
                Part(".symtab", table, kind=2, flags=0, link=at),
                Part(".strtab", strings, kind=3, flags=0),
            ]
        return write_elf(parts)

    def without_kallsyms(self) -> Kernel:
        return replace(self, kallsyms=False)


def sized(stream: bytes, unpacked: int) -> bytes:
    """A compressed stream and the size trailer the kernel's build appends."""
    return stream + struct.pack("<I", unpacked)


def write_bzimage(
    payload: bytes | None = None,
    *,
    release: str = RELEASE,
    protocol: int = 0x20F,
    xloadflags: int = 0x7F,
    length: int | None = None,
) -> bytes:
    """A boot image of one boot sector, 4 setup sectors and the payload."""
    if payload is None:
        payload = gzip.compress(Kernel().elf(), 1, mtime=0)
    blob = bytearray(5 * 512)
    blob[:2] = b"MZ"
    blob[0x1F1] = 4
    blob[0x1FE:0x200] = b"\x55\xaa"
    blob[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", blob, 0x206, protocol)
    struct.pack_into("<H", blob, 0x20E, 0x300)
    struct.pack_into("<H", blob, 0x236, xloadflags)
    struct.pack_into("<II", blob, 0x248, 0, len(payload) if length is None else length)
    version = f"{release} (someone@example.org) #1 SMP".encode() + b"\0"
    blob[0x500 : 0x500 + len(version)] = version
    return bytes(blob) + payload

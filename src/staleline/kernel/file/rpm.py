# SPDX-License-Identifier: GPL-2.0-or-later
"""An RPM package: lead, signature, header, and a compressed cpio archive.

Layout: "RPM V4 Package format" of the rpm manual (docs/manual/format_v4.md, 4.19).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct, unpack_from
from typing import Final

from staleline.kernel.file.archives import (
    Package,
    cpio_members,
    damaged_package,
    relative,
    unpacked_part,
)
from staleline.kernel.file.source import ByteSource

__all__ = ["RPM_MAGIC", "open_rpm"]

RPM_MAGIC: Final = b"\xed\xab\xee\xdb"

_LEAD: Final = 96
_HEADER: Final = Struct(">4s4x2I")
_HEADER_MAGIC: Final = b"\x8e\xad\xe8\x01"
_ENTRY: Final = Struct(">4I")
# Tags and types, rpmtag.h.
_NAME, _VERSION, _RELEASE, _EPOCH = 1000, 1001, 1002, 1003
_FILE_MODES, _FILE_FLAGS = 1030, 1037
_DIR_INDEXES, _BASE_NAMES, _DIR_NAMES = 1116, 1117, 1118
_STRING, _STRING_ARRAY = 6, 8
_LONGEST_TEXT: Final = 255
_NUMBERS: Final = {3: ("H", 2), 4: ("I", 4)}
_GHOST: Final = 1 << 6  # belongs to the package and is not in it: Fedora's /boot/vmlinuz-*
_S_IFMT, _S_IFREG = 0o170000, 0o100000
# Bounds on what a hostile header can ask for; kernel packages have 4 000 files.
_MAX_ENTRIES: Final = 1 << 12
_MAX_DATA: Final = 32 << 20
_MAX_FILES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class _Header:
    """Entries by tag (type, offset in `data`, count), and where the header ends."""

    entries: Mapping[int, tuple[int, int, int]]
    data: bytes
    end: int

    def strings(self, tag: int) -> list[bytes]:
        """A string array; empty if it is missing or no such array."""
        kind, offset, count = self.entries.get(tag, (0, 0, 0))
        if kind != _STRING_ARRAY or count > _MAX_FILES:
            return []
        return self.data[offset:].split(b"\0", count)[:count]

    def text(self, tag: int) -> str | None:
        """A string; None if it is missing or none."""
        kind, offset, _ = self.entries.get(tag, (0, 0, 0))
        if kind != _STRING:
            return None
        return self.data[offset:].split(b"\0", 1)[0][:_LONGEST_TEXT].decode("utf-8", "replace")

    def numbers(self, tag: int) -> tuple[int, ...]:
        """An array of 16- or 32-bit numbers; empty if it is missing or no such array."""
        kind, offset, count = self.entries.get(tag, (0, 0, 0))
        code, size = _NUMBERS.get(kind, ("", 0))
        if not code or count > _MAX_FILES or offset + size * count > len(self.data):
            return ()
        return unpack_from(f">{count}{code}", self.data, offset)


def open_rpm(source: ByteSource) -> Package:
    """Find the parts of a package that begins with `RPM_MAGIC`.

    Raises:
        KernelImageError: It is damaged.
    """
    signature = _header(source, _LEAD)
    # The signature is padded to eight bytes, the header is not (format_v4.md, "Signature").
    header = _header(source, -(-signature.end // 8) * 8)
    # What compresses it is told by its first bytes.
    stream = unpacked_part(source, header.end, source.size - header.end)
    return Package(stream, cpio_members, _files(header), header.text(_NAME), _version(header))


def _header(source: ByteSource, at: int) -> _Header:
    magic, entries, size = _HEADER.unpack(source.read(at, _HEADER.size))
    if magic != _HEADER_MAGIC or entries > _MAX_ENTRIES or size > _MAX_DATA:
        raise damaged_package("no header structure", source, at)
    index = at + _HEADER.size
    start = index + entries * _ENTRY.size
    table = source.read(index, start - index)
    return _Header(
        {tag: (kind, offset, count) for tag, kind, offset, count in _ENTRY.iter_unpack(table)},
        bytes(source.read(start, size)),
        start + size,
    )


def _version(header: _Header) -> str | None:
    """As ``rpm -q --qf '%{EVR}'`` has it."""
    version, release = header.text(_VERSION), header.text(_RELEASE)
    if version is None or release is None:
        return version
    epoch = header.numbers(_EPOCH)
    return f"{epoch[0]}:{version}-{release}" if epoch else f"{version}-{release}"


def _files(header: _Header) -> tuple[str, ...] | None:
    """Regular files in the archive: each a base name and the number of its directory's."""
    names, directories = header.strings(_BASE_NAMES), header.strings(_DIR_NAMES)
    indexes = header.numbers(_DIR_INDEXES)
    modes, flags = header.numbers(_FILE_MODES), header.numbers(_FILE_FLAGS)
    # A list that does not hang together is none: then the archive itself is read for names.
    if not names or {len(indexes), len(modes), len(flags)} != {len(names)}:
        return None
    if max(indexes) >= len(directories):
        return None
    return tuple(
        relative(directories[index] + name)
        for name, index, mode, flag in zip(names, indexes, modes, flags, strict=True)
        if mode & _S_IFMT == _S_IFREG and not flag & _GHOST
    )

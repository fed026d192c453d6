# SPDX-License-Identifier: GPL-2.0-or-later
"""An RPM package: lead, signature, header, and a compressed cpio archive.

Layout: "RPM V4 Package format" of the rpm manual (docs/manual/format_v4.md, 4.19).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from struct import Struct, unpack_from
from typing import Final

from staleline.kernel.file.archives import (
    Member,
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
_FILE_SIZES, _FILE_MODES, _FILE_FLAGS = 1028, 1030, 1037
_LONG_FILE_SIZES, _DEVICES, _INODES = 5008, 1095, 1096
_DIR_INDEXES, _BASE_NAMES, _DIR_NAMES = 1116, 1117, 1118
_STRING, _STRING_ARRAY = 6, 8
_LONGEST_TEXT: Final = 255
_NUMBERS: Final = {3: ("H", 2), 4: ("I", 4), 5: ("Q", 8)}
_GHOST: Final = 1 << 6  # belongs to the package and is not in it: Fedora's /boot/vmlinuz-*
_S_IFMT, _S_IFREG, _S_IFLNK = 0o170000, 0o100000, 0o120000
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
        """An array of 16-, 32- or 64-bit numbers; empty if it is missing or no such array."""
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
    members = _members(header)
    files = tuple(name for name, _, kept in members if kept) if members else None
    read = partial(cpio_members, listed=[member for _, member, _ in members])
    return Package(stream, read, files, header.text(_NAME), _version(header))


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


def _members(header: _Header) -> list[tuple[str, Member, bool]]:
    """The files of the list, each a base name and the number of its directory's.

    Each with its name, what the archive has of it, and whether it is regular and in the archive;
    none if the list does not hang together: then the archive itself is read for names.
    """
    names, directories = header.strings(_BASE_NAMES), header.strings(_DIR_NAMES)
    indexes = header.numbers(_DIR_INDEXES)
    modes, flags = header.numbers(_FILE_MODES), header.numbers(_FILE_FLAGS)
    if not names or {len(indexes), len(modes), len(flags)} != {len(names)}:
        return []
    if max(indexes) >= len(directories):
        return []
    members: list[tuple[str, Member, bool]] = []
    sizes = _sizes(header, modes)
    for number, (index, base) in enumerate(zip(indexes, names, strict=True)):
        name, regular = relative(directories[index] + base), modes[number] & _S_IFMT == _S_IFREG
        member = Member(name, sizes[number], regular)
        members.append((name, member, regular and not flags[number] & _GHOST))
    return members


def _sizes(header: _Header, modes: tuple[int, ...]) -> list[int]:
    """How many bytes an archive has of each file that leaves its size to the header.

    Of hard links the last has the content (rpm 6.0 lib/rpmfi.cc iterReadArchiveNext()).
    """
    given = header.numbers(_LONG_FILE_SIZES) or header.numbers(_FILE_SIZES)
    if len(given) != len(modes):
        return [0] * len(modes)
    devices, inodes = header.numbers(_DEVICES), header.numbers(_INODES)
    if {len(devices), len(inodes)} != {len(modes)}:
        devices, inodes = (0,) * len(modes), tuple(range(len(modes)))
    last = {file: number for number, file in enumerate(zip(devices, inodes, strict=True))}
    return [
        size
        if mode & _S_IFMT == _S_IFLNK
        or (mode & _S_IFMT == _S_IFREG and last[devices[number], inodes[number]] == number)
        else 0
        for number, (size, mode) in enumerate(zip(given, modes, strict=True))
    ]

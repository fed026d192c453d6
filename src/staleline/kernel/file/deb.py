# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian package: an ar(5) archive of a control and a data archive, see deb(5).

The control archive's ``md5sums`` lists the files. Policy recommends it and kernel packages
have it; without it the whole data archive has to be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from struct import Struct
from typing import Final

from staleline.kernel.file.archives import (
    Package,
    archive_members,
    damaged_package,
    relative,
    unpacked_part,
)
from staleline.kernel.file.source import ByteSource

__all__ = ["DEB_MAGIC", "open_deb"]

DEB_MAGIC: Final = b"!<arch>\n"

_AR_HEADER: Final = Struct("16s32x10s2s")
_AR_MEMBERS: Final = 16  # a .deb has three
_MD5SUM: Final = re.compile(rb"^[0-9a-f]{32} [ *](.+)$", re.MULTILINE)
_MAX_MD5SUMS: Final = 16 << 20
_MAX_CONTROL: Final = 64 << 20

_Range = tuple[int, int]  # offset and size


def open_deb(source: ByteSource) -> Package:
    """Find the parts of a package that begins with `DEB_MAGIC`.

    Raises:
        KernelImageError: It is damaged.
    """
    parts = _parts(source)
    archive = _tar(parts, "data")
    if archive is None:
        raise damaged_package("no part data.tar", source, len(DEB_MAGIC))
    return Package(unpacked_part(source, *archive), archive_members, _files(source, parts))


def _parts(source: ByteSource) -> Mapping[str, _Range]:
    """Where each part is, by name."""
    parts: dict[str, _Range] = {}
    at = len(DEB_MAGIC)
    while at + _AR_HEADER.size <= source.size and len(parts) < _AR_MEMBERS:
        name, digits, end = _AR_HEADER.unpack(source.read(at, _AR_HEADER.size))
        start = at + _AR_HEADER.size
        if end != b"`\n" or not digits.strip().isdigit():
            raise damaged_package("no header of a part", source, at)
        size = int(digits)
        if start + size > source.size:
            raise damaged_package("a part ends after the file", source, at)
        # Some ar programs end names with a slash (deb(5) allows it); the first of a name counts.
        parts.setdefault(name.decode("ascii", "replace").rstrip(" /"), (start, size))
        at = start + size + size % 2  # members begin at even offsets, ar(5)
    return parts


def _tar(parts: Mapping[str, _Range], stem: str) -> _Range | None:
    # What compresses it stands behind, and is told by its first bytes.
    return next((part for name, part in parts.items() if name.startswith(f"{stem}.tar")), None)


def _files(source: ByteSource, parts: Mapping[str, _Range]) -> tuple[str, ...] | None:
    control = _tar(parts, "control")
    if control is None:
        return None
    stream = unpacked_part(source, *control, limit=_MAX_CONTROL)
    for member in archive_members(stream):
        if member.name == "md5sums" and 0 < member.size <= _MAX_MD5SUMS:
            return tuple(map(relative, _MD5SUM.findall(stream.read(member.size))))
    return None

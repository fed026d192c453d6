# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian package: an ar(5) archive of a control and a data archive, see deb(5).

The control archive's ``control`` names the package, its ``md5sums`` lists the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
_FIELD: Final = re.compile(rb"^(Package|Version): *([!-~]{1,255})\s*$", re.MULTILINE)
#: File of the control archive -> most bytes that are read of it.
_WANTED: Final = {"control": 1 << 20, "md5sums": 16 << 20}
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
    control = dict(_control(source, parts))
    fields = dict(_FIELD.findall(control.get("control", b"")))
    return Package(
        unpacked_part(source, *archive),
        archive_members,
        # Debian's policy recommends the list, and kernel packages have it; without it the whole
        # data archive has to be read.
        None if "md5sums" not in control else _listed(control["md5sums"]),
        _text(fields.get(b"Package")),
        _text(fields.get(b"Version")),
    )


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


def _control(source: ByteSource, parts: Mapping[str, _Range]) -> Iterator[tuple[str, bytes]]:
    """The files of the control archive that are wanted, by name."""
    control = _tar(parts, "control")
    if control is None:
        return
    stream = unpacked_part(source, *control, limit=_MAX_CONTROL)
    wanted = set(_WANTED)
    for member in archive_members(stream):
        if member.name in wanted and 0 < member.size <= _WANTED[member.name]:
            yield member.name, stream.read(member.size)
            wanted.remove(member.name)
        if not wanted:
            return


def _listed(md5sums: bytes) -> tuple[str, ...]:
    return tuple(map(relative, _MD5SUM.findall(md5sums)))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")

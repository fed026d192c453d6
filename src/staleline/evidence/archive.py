# SPDX-License-Identifier: GPL-2.0-or-later
"""Tar archives as trees of files, read in one pass and never written to disk.

Members are told by name; no link leads out of the archive, devices are ignored, and both
what is unpacked and what is kept are bounded.
"""

from __future__ import annotations

import errno
import io
import posixpath
import re
import tarfile
from collections.abc import Iterator

from staleline.errors import EvidenceError
from staleline.evidence.source import MAX_BYTES, Stream
from staleline.evidence.staleline_collect import Tree

__all__ = ["ArchiveTree", "read_archive"]

_UNPACKED_MAX = 8 << 30
_KEPT_MAX = 256 << 20
_MEMBERS_MAX = 1 << 20
#: Files that evidence is read from, wherever the archive's own top directory is.
_WANTED = re.compile(
    r"(?:.*/)?(?:proc/(?:cpuinfo|cmdline|config\.gz|sys/kernel/(?:hostname|osrelease))"
    r"|sys/(?:module/kvm_(?:amd|intel)/parameters/\w+|fs/cgroup/misc\.peak"
    r"|kernel/(?:notes|kexec_(?:loaded|crash_loaded|crash_size)|reboot/force)"
    r"|bus/pci/drivers/ccp/[^/]+/tsme_status"
    r"|devices/system/cpu/(?:present|online|cpu[0-9]+/cache/index[0-9]+/\w+))"
    r"|boot/config-[^/]+|lib/modules/[^/]+/config|uname|hostname|dmesg"
    r"|sos_commands/(?:kernel/(?:uname_-a|dmesg[^/]*)|host/hostname[^/]*"
    r"|processor/(?:lscpu|cpuid_-r))|pu[0-9]{1,6})"
)
#: Files outside of such a layout: dumps that somebody put into an archive.
_LOOSE_BYTES = 4 << 20
_LOOSE_MAX = 32


class ArchiveTree(Tree):
    """The files of an archive below the directory `top` in it.

    Attributes:
        files: Their contents by path below `top`.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def read(self, path: str) -> bytes:
        """The content of a file."""
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "is not in the archive", path) from None

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        start = f"{path}/"
        found = {
            name[len(start) :].partition("/")[0] for name in self.files if name.startswith(start)
        }
        if not found:
            raise FileNotFoundError(errno.ENOENT, "is not in the archive", path)
        return sorted(found)


def read_archive(stream: Stream, where: str) -> dict[str, bytes]:
    """Return the members that may be evidence, by path.

    Raises:
        EvidenceError: The archive is damaged or too large.
    """
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=_Bounded(stream, where), mode="r|") as archive:
            _gather(archive, where, files, links)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise EvidenceError(
            f"is a damaged tar archive: {error}", where=where, do="make the archive again"
        ) from error
    for name, target in links.items():
        if target in files:
            files.setdefault(name, files[target])
    return files


def _gather(
    archive: tarfile.TarFile, where: str, files: dict[str, bytes], links: dict[str, str]
) -> None:
    kept = loose = 0
    for name, member in _named(archive, where):
        wanted = _WANTED.fullmatch(name) is not None
        if member.issym() or member.islnk():
            if wanted:
                links[name] = _target(name, member)
            continue
        if not wanted:
            if member.size > _LOOSE_BYTES or loose == _LOOSE_MAX or _in_layout(name):
                continue
            loose += 1
        kept += member.size
        if member.size > MAX_BYTES or kept > _KEPT_MAX:
            raise EvidenceError(
                f"member {name} is larger than evidence is", where=where, do="leave it out"
            )
        content = archive.extractfile(member)
        assert content is not None
        files[name] = content.read()


def _named(archive: tarfile.TarFile, where: str) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Regular files and links under plain relative names."""
    for count, member in enumerate(archive):
        if count == _MEMBERS_MAX:
            raise EvidenceError("has too many members", where=where, do="give one machine's files")
        # tarfile keeps every header it has seen; a stream needs none of them again.
        archive.members.clear()  # type: ignore[attr-defined]
        name = posixpath.normpath(member.name)
        if name.startswith(("/", "../")) or name == "..":
            raise EvidenceError(
                f"member {member.name!r} leads out of the archive",
                where=where,
                do="make the archive with relative names",
            )
        if member.isreg() or member.issym() or member.islnk():
            yield name, member


def _in_layout(name: str) -> bool:
    return re.search(r"(?:^|/)(?:proc|sys|sos_\w+|etc|var|usr|boot)/", name) is not None


def _target(name: str, link: tarfile.TarInfo) -> str:
    if link.islnk():
        return posixpath.normpath(link.linkname)
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), link.linkname))


class _Bounded(io.RawIOBase):
    """A stream that refuses to yield more than `_UNPACKED_MAX` bytes."""

    def __init__(self, stream: Stream, where: str) -> None:
        self._stream = stream
        self._where = where
        self._left = _UNPACKED_MAX

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise EvidenceError(
                f"unpacks to more than {_UNPACKED_MAX >> 30} GiB",
                where=self._where,
                do="leave out what is no evidence",
            )
        return data

# SPDX-License-Identifier: GPL-2.0-or-later
"""Tar archives as trees of files, read in one pass and never written to disk.

Members are told by name; no link leads out of the archive, devices are ignored, and both
what is unpacked and what is kept are bounded.
"""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Iterator

from staleline.errors import EvidenceError
from staleline.evidence.hosts.loose import LooseFiles
from staleline.evidence.staleline_collect import Tree
from staleline.pattern import Pattern
from staleline.tar import TarMember, tar_members
from staleline.unpacking import UnpackedStream

__all__ = ["UNREAD_LOG", "ArchiveTree", "read_archive"]

#: Bytes of all members that are kept, each counted with what keeping it costs.
_KEPT_MAX = 32 << 20
_KEPT_COST = 1 << 9
_MEMBERS_MAX = 1 << 20
_MEMBER_MAX = 16 << 20
#: Files that evidence is read from, wherever the archive's own top directory is.
_WANTED = Pattern(
    r"(?:.*/)?(?:proc/(?:cpuinfo|cmdline|bootconfig|config\.gz|modules|version|xen/capabilities"
    r"|sys/kernel/(?:hostname|osrelease|tainted))"
    r"|sys/(?:module/kvm_(?:amd|intel)/parameters/\w+|module/[^/]+/(?:initstate|taint)"
    r"|module/jailhouse/.*|devices/jailhouse/enabled|fs/cgroup/misc\.peak|hypervisor/type"
    r"|kernel/(?:notes|kexec_(?:loaded|crash_loaded|crash_size)|reboot/force|boot_params/data"
    r"|livepatch/.*|debug/kprobes/(?:list|enabled))"
    r"|bus/pci/drivers/ccp/[^/]+/tsme_status"
    r"|devices/system/cpu/(?:present|online|cpu[0-9]+/cache/index[0-9]+/\w+))"
    r"|boot/config-[^/]+|lib/modules/[^/]+/config|uname|hostname|dmesg|lsmod"
    r"|sos_commands/(?:kernel/(?:uname_-a|lsmod|dmesg[^/]*)|host/hostname[^/]*"
    r"|processor/(?:lscpu|cpuid_-r)|xen/xl_[a-z]+)|pu[0-9]{1,6})"
)
#: Logs of a host's, which hold more boots than one, and beside its tree what that tells better.
_LOG = Pattern(r"(?:.*/)?var/log/(?:dmesg|kern\.log|messages|syslog)")
_LOGS_MAX = 4 << 20
#: In the place of a log that is larger.
UNREAD_LOG = b"\0"
_HARD_LINK, _SYMBOLIC_LINK = b"1", b"2"


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
        members = {
            name[len(start) :].partition("/")[0] for name in self.files if name.startswith(start)
        }
        if not members:
            raise FileNotFoundError(errno.ENOENT, "is not in the archive", path)
        return sorted(members)


def read_archive(stream: UnpackedStream) -> dict[str, bytes]:
    """Return the members that may be evidence, by path.

    Raises:
        EvidenceError: The archive is damaged or too large.
    """
    members = _Members(stream)
    for name, member in _named(stream):
        members.add(name, member)
    stream.skip_to_end()  # the checksum of compressed data is behind the archive's end
    return members.with_links()


class _Members:
    """Those of an archive that may be evidence, within bounds."""

    def __init__(self, stream: UnpackedStream) -> None:
        self._stream = stream
        self._files: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        self._kept = 0
        self._logs = 0
        self._loose = LooseFiles(stream.complaint.where)

    def add(self, name: str, member: TarMember) -> None:
        """Keep the member that the stream has come to, if it may be evidence."""
        wanted = _WANTED.fullmatch(name) is not None
        if member.kind in (_HARD_LINK, _SYMBOLIC_LINK):
            if wanted:
                self._count(name, 0)
                self._links[name] = _target(name, member)
            return
        if _LOG.fullmatch(name) and not member.sparse:
            self._count(name, 0)
            self._logs += member.size
            small = self._logs <= _LOGS_MAX
            self._files[name] = self._stream.read(member.size) if small else UNREAD_LOG
            return
        # Of a host's tree only what is wanted is evidence: the rest are no dumps that somebody put
        # there.
        if not wanted and not self._loose.is_to_read(name, member.size, self._stream.peek):
            return
        # What is stored of it is not its content.
        if member.sparse:
            raise self._refused(name, "is stored sparse", "make the archive without --sparse")
        self._count(name, member.size)
        content = self._stream.read(member.size)
        if len(content) < member.size:
            raise self._refused(name, "is cut short", "make the archive again")
        self._files[name] = content

    def with_links(self) -> dict[str, bytes]:
        """The contents, also under the names of links to them."""
        for name, target in self._links.items():
            if target in self._files:
                self._files.setdefault(name, self._files[target])
        return self._files

    def _count(self, name: str, size: int) -> None:
        self._kept += size + len(name) + _KEPT_COST
        if size > _MEMBER_MAX or self._kept > _KEPT_MAX:
            raise self._refused(name, "is more than evidence of a machine is", "leave it out")

    def _refused(self, name: str, what: str, do: str) -> EvidenceError:
        return EvidenceError(f"member {name} {what}", where=self._stream.complaint.where, do=do)


def _named(stream: UnpackedStream) -> Iterator[tuple[str, TarMember]]:
    """Regular files and links under plain relative names."""
    where = stream.complaint.where
    for count, member in enumerate(tar_members(stream)):
        if count == _MEMBERS_MAX:
            raise EvidenceError("has too many members", where=where, do="give one machine's files")
        # ``tar -P`` keeps the slash at the beginning; nothing is written, so what is below / is as
        # good.
        name = _below_root(_path(member.name))
        if name.startswith("../") or name == "..":
            raise EvidenceError(
                f"member {member.name.decode('utf-8', 'replace')!r} leads out of the archive",
                where=where,
                do="make the archive from the directory that holds the files",
            )
        if member.regular or member.sparse or member.kind in (_HARD_LINK, _SYMBOLIC_LINK):
            yield name, member


def _path(name: bytes) -> str:
    return posixpath.normpath(name.decode("utf-8", "surrogateescape"))


def _below_root(path: str) -> str:
    return path.lstrip("/") or "."


def _target(name: str, link: TarMember) -> str:
    if link.kind == _HARD_LINK:
        return _below_root(_path(link.link))
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), _path(link.link)))

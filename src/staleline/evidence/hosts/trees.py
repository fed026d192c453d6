# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers of file trees: a copied /proc and /sys, ``lscpu --sysroot`` trees, sosreports.

A tree is a directory or a tar archive.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from staleline.errors import EvidenceError
from staleline.evidence.cpuid import cpuid_tool
from staleline.evidence.hosts import snapshot_json
from staleline.evidence.hosts.archive import ArchiveTree
from staleline.evidence.hosts.merge import merged
from staleline.evidence.log import dmesg, xen
from staleline.evidence.log.unread import unread_messages
from staleline.evidence.pasted.cutoff import read_before_cut
from staleline.evidence.snapshot import KernelEvidence, Snapshot
from staleline.evidence.source import decode
from staleline.evidence.staleline_collect import HostTree, Tree, collect, document_text
from staleline.evidence.tools import cpuinfo, lscpu, modulelist
from staleline.pattern import Pattern

__all__ = ["is_host_directory", "layout_of", "read_directory", "read_pieces", "read_tree"]

_Parse = Callable[[str, str], Snapshot]

_GIVE = (
    "give a directory or archive that holds proc/cpuinfo, a sosreport, "
    "or the dumps and snapshots themselves"
)
#: What tells the top of a tree.
_MARKS = ("proc/cpuinfo", "proc/cmdline", "sos_commands/kernel/uname_-a", "sos_commands/processor")
_MARK = Pattern(r"(?:(.*?)/)?(?:" + "|".join(_MARKS) + r")(?:/.*)?")
#: A file of a host's that does not tell the top.
_PIECE = Pattern(r"(?:(.*?)/)?(?:proc|sys)/.*")
_UNAME = "sos_commands/kernel/uname_-a"
_VERSION = "proc/version"


def is_host_directory(path: str) -> bool:
    """Is it laid out as one host's files?"""
    return any(os.path.exists(os.path.join(path, mark)) for mark in _MARKS)


def read_directory(path: str) -> Snapshot:
    """Return the machine whose files the directory `path` holds.

    Raises:
        EvidenceError: It holds no such files, or they are damaged or contradict each other.
    """
    if not is_host_directory(path):
        raise EvidenceError("is a directory that is not laid out as a host", where=path, do=_GIVE)
    return read_tree(HostTree(path), path)


def layout_of(files: Mapping[str, bytes], where: str) -> ArchiveTree | None:
    """The tree in an archive whose members are `files`, or None where it holds none.

    Raises:
        EvidenceError: It holds several.
    """
    tops = {found[1] or "" for name in files if (found := _MARK.fullmatch(name))}
    outermost = _outermost(tops)
    if len(outermost) > 1:
        raise _several_machines(outermost, where)
    if not outermost:
        return None
    top = outermost[0]
    return ArchiveTree(
        {
            posixpath.relpath(name, top or "."): data
            for name, data in files.items()
            if not top or name.startswith(f"{top}/")
        }
    )


def _outermost(tops: Collection[str]) -> list[str]:
    """Those of `tops` that are in no other: a sosreport may hold copies of trees further down."""
    outermost: list[str] = []
    # By components a directory stands right before all that is in it, so that one pass does: an
    # archive may have a hundred thousand tops, and each against each would take hours.
    for top in sorted(tops, key=lambda path: path.split("/")):
        if not outermost or not _below(top, outermost[-1]):
            outermost.append(top)
    return outermost


def _below(path: str, top: str) -> bool:
    return path != top and (not top or path.startswith(f"{top}/"))


def read_tree(tree: Tree, where: str) -> Snapshot:
    """Return the machine whose files `tree` holds.

    Raises:
        EvidenceError: They are damaged or contradict each other.
    """
    machine = merged(_sources(tree, where), where)
    if _says_nothing(machine):
        raise EvidenceError("holds no evidence of a machine", where=where, do=_GIVE)
    return machine


def read_pieces(files: Mapping[str, bytes], where: str) -> Iterator[Snapshot]:
    """What files of /proc and /sys tell that lie where nothing marks a host's tree.

    Raises:
        EvidenceError: They are of several trees.
    """
    tops = {found[1] or "" for name in files if (found := _PIECE.fullmatch(name))}
    if len(tops) > 1:
        raise _several_machines(sorted(tops), where)
    for top in tops:
        below = f"{top}/" if top else ""
        tree = ArchiveTree({name.removeprefix(below): files[name] for name in files})
        machine = replace(merged(_sources(tree, where), where), notes=())
        if not _says_nothing(machine):
            yield machine


def _several_machines(tops: Sequence[str], where: str) -> EvidenceError:
    return EvidenceError(
        f"holds several machines: {tops[0]} and {tops[1]}",
        where=where,
        do="give one archive per machine",
    )


def _says_nothing(machine: Snapshot) -> bool:
    """Is nothing known but what is missing, and what the machine is called?"""
    log = machine.log if machine.log and (machine.log.lines or machine.log.complete) else None
    told = replace(machine, log=log, modules=machine.modules or None)
    if not machine.kernel.cmdline:
        told = replace(told, kernel=replace(machine.kernel, cmdline=None))
    return replace(told, host=None, collected=None, notes=()) == Snapshot(cpus=())


def _sources(tree: Tree, where: str) -> Iterator[Snapshot]:
    # As a host is read, but that nothing is executed; what sosreport keeps as outputs of commands
    # is added below.
    document = collect(_WithUname(tree))
    # The time of reading is not the time of collecting, and cpuinfo is read more strictly.
    document.update(collected=None, cpuinfo=None)
    if document["log"] is not None:
        # A copy of /dev/kmsg ends where somebody ended it, which may be at any time.
        document["log"]["complete"] = False
    yield snapshot_json.parse(document_text(document), where)
    for path, parse in _FILES:
        try:
            data = tree.read(path)
        except OSError:
            continue
        if data.strip():
            at = posixpath.join(where, path)
            text = decode(data, at)
            yield read_before_cut(parse, text, at)
            if parse is dmesg.parse and (listed := modulelist.listed_modules(text)) is not None:
                yield listed
            if parse is dmesg.parse:
                unread = unread_messages(text, text, at, lambda _, line: dmesg.is_read(line))
                yield Snapshot(cpus=(), unread=unread)


class _WithUname(Tree):
    """A tree that tells host and release from other files where it lacks the kernel's own."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def records(self, path: str) -> list[bytes]:
        """The records of a file."""
        return self._tree.records(path)

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        return self._tree.names(path)

    def open(self, path: str) -> int:
        """A descriptor of a device."""
        return self._tree.open(path)

    def read(self, path: str) -> bytes:
        """The content of a file; of an empty copy none."""
        try:
            content = self._tree.read(path)
            # Files of /proc, cgroups and debugfs have no size, so that what copies by size, as tar
            # does, makes empty ones of them: that is no list without entries. The collector tells
            # of an empty command line why it is not taken.
            if not content and path != "proc/cmdline":
                raise OSError(errno.ENODATA, "is empty", path)
            return content
        except OSError:
            if path == "proc/sys/kernel/osrelease":
                return self._first_of(_release_of_uname, _release_of_version)
            if path == "proc/sys/kernel/hostname":
                return self._first_of(_host_of_uname)
            raise

    def _first_of(self, *tell: Callable[[Tree], bytes]) -> bytes:
        """What the first file tells that is there."""
        *others, last = tell
        for told in others:
            try:
                return told(self._tree)
            except OSError:
                continue
        return last(self._tree)


def _host_of_uname(tree: Tree) -> bytes:
    return _uname_words(tree.read(_UNAME))[1]


def _release_of_uname(tree: Tree) -> bytes:
    return _uname_words(tree.read(_UNAME))[2]


def _release_of_version(tree: Tree) -> bytes:
    """As fs/proc/version.c of linux 7.3.4 has it: Linux version RELEASE (...)."""
    words = tree.read(_VERSION).split()
    if words[:2] != [b"Linux", b"version"] or len(words) < 3:
        raise OSError(errno.EINVAL, "is not /proc/version of Linux", _VERSION)
    return words[2]


def _uname_words(data: bytes) -> list[bytes]:
    """``uname -a``: Linux HOST RELEASE VERSION ..."""
    words = data.split()
    if len(words) < 3 or words[0] != b"Linux":
        raise OSError(errno.EINVAL, "is not the output of uname -a on Linux", _UNAME)
    return words


def _version(text: str, where: str) -> Snapshot:
    words = text.split()
    if words[:2] != ["Linux", "version"] or len(words) < 3:
        do = "copy /proc/version of a Linux host"
        raise EvidenceError("is not /proc/version of Linux", where=where, do=do)
    return Snapshot(cpus=(), kernel=KernelEvidence(release=words[2]))


def _uname(text: str, where: str) -> Snapshot:
    try:
        _, host, release, *_ = (word.decode() for word in _uname_words(text.encode()))
    except OSError as error:
        raise EvidenceError(error.strerror or "cannot be read", where=where) from error
    return Snapshot(cpus=(), host=host, kernel=KernelEvidence(release=release))


#: Files besides those a host has, and outputs of commands that sosreport keeps (its plugins
#: kernel, processor and xen).
_FILES: tuple[tuple[str, _Parse], ...] = (
    ("proc/cpuinfo", cpuinfo.parse),
    ("sos_commands/processor/cpuid_-r", cpuid_tool.parse),
    ("sos_commands/processor/lscpu", lscpu.parse),
    ("sos_commands/kernel/dmesg", dmesg.parse),
    ("sos_commands/kernel/dmesg_-T", dmesg.parse),
    ("proc/modules", modulelist.parse),
    ("sos_commands/kernel/lsmod", modulelist.parse),
    ("sos_commands/xen/xl_info", xen.parse),
    ("sos_commands/xen/xl_dmesg", xen.parse),
    ("sos_commands/xen/xl_list", modulelist.parse),
    (_UNAME, _uname),
    (_VERSION, _version),
)

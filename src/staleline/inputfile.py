# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that users name, opened so that nothing waits for ever and nothing is taken in whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from staleline.errors import StalelineError

__all__ = ["opened_input", "read_input", "whole_number"]

_DO = {
    FileNotFoundError: "check the path",
    NotADirectoryError: "check the path",
    PermissionError: "make it readable or run as a user who may read it",
    IsADirectoryError: "give a file in it",
}
#: Where the kernel shows files of its own.
_MADE_UP = ("/proc", "/sys", "/sys/kernel/debug", "/sys/kernel/tracing")
#: Of those, what is evidence by itself, ends, and is the same for everybody who reads it.
_ENDS = frozenset({"cpuinfo", "cmdline"})
#: Files that wait, wherever they are mounted: linux 7.3.4 fs/proc/kmsg.c, kernel/trace/trace.c.
_WAITS = frozenset({"kmsg", "trace_pipe", "trace_pipe_raw"})
_OF_THE_LOG = "give a file with the output of dmesg, or run staleline collect"

#: No number that is read has more; int() refuses longer ones in words of Python.
_DIGITS = 40


def whole_number(digits: str) -> int:
    """A whole number in a document of JSON, for `json.loads`.

    Raises:
        ValueError: It is longer than any that is used.
    """
    if len(digits) > _DIGITS:
        raise ValueError(f"number of {len(digits)} digits")
    return int(digits)


@contextmanager
def opened_input(
    path: str | os.PathLike[str], error: type[StalelineError], *, pipes: bool = True
) -> Iterator[BinaryIO]:
    """A regular file or a pipe of the shell, open inside.

    Args:
        path: The file.
        error: What is raised.
        pipes: Is a pipe good enough? It can be read only once, from start to end.

    Raises:
        StalelineError: As `error`: it is none, or cannot be opened or read, now or inside.
    """
    where = os.fspath(path)
    try:
        with open(_descriptor(where, error), "rb") as file:
            _require_bounded(file.fileno(), where, error, pipes=pipes)
            os.set_blocking(file.fileno(), True)
            yield file
    except OSError as reason:
        what = f"cannot be read: {reason.strerror or reason}"
        raise error(what, where=where, do=_DO.get(type(reason))) from reason


def _descriptor(where: str, error: type[StalelineError]) -> int:
    # What it is, is asked of what was opened: a path can change in between. O_NONBLOCK keeps a
    # FIFO or a device from blocking before it is refused.
    try:
        return os.open(where, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as reason:  # a NUL in the path
        raise error(f"is not a path ({reason})", where=where) from reason


def read_input(
    path: str | os.PathLike[str],
    error: type[StalelineError],
    *,
    limit: int,
    do: str | None = None,
) -> bytes:
    """The bytes of a regular file or a pipe of the shell.

    Args:
        path: The file.
        error: What is raised.
        limit: Most bytes it may have.
        do: What to do about a larger one.

    Raises:
        StalelineError: As `error`: it cannot be read, or is larger.
    """
    with opened_input(path, error) as file:
        # Read and not asked for: a pipe has no size, and a file may grow.
        content = file.read(limit + 1)
    if len(content) > limit:
        raise error(f"is larger than {_size(limit)}", where=path, do=do)
    return content


def _size(limit: int) -> str:
    return f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"


def _require_bounded(
    descriptor: int, where: str, error: type[StalelineError], *, pipes: bool
) -> None:
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise error("is a directory", where=where, do="give a file in it")
    name = os.path.basename(_opened_path(descriptor, where))
    if stat.S_ISREG(status.st_mode):
        # Some files that the kernel makes up as they are read wait for what is to come, and take
        # it from whoever else reads them (/proc/kmsg, trace_pipe of tracefs).
        if not _is_made_up(status, name):
            return
        what = "is made up by the kernel as it is read, which may wait or take from other readers"
        do = _OF_THE_LOG if name == "kmsg" else "give a copy of what it says"
        raise error(what, where=where, do=do)
    # A pipe that the shell made ends when its writer ends. A FIFO in the file system may never have
    # a writer, and a device may never end.
    if pipes and _is_of_the_shell(status):
        return
    if not pipes:
        raise error("is not a regular file", where=where, do="give the file itself")
    raise error(
        "is neither a file nor a pipe of the shell",
        where=where,
        do=_OF_THE_LOG if name == "kmsg" else "give a file, or write <(COMMAND) or /dev/stdin",
    )


def _opened_path(descriptor: int, where: str) -> str:
    """Where it is behind all links; `where` on systems without /proc."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return where


def _is_made_up(status: os.stat_result, name: str) -> bool:
    """Has it no size before it is read, and is it not known to end?"""
    if status.st_size or name in _ENDS:
        return False
    return name in _WAITS or status.st_dev in set(_devices(_MADE_UP))


def _devices(paths: Iterable[str]) -> Iterator[int]:
    for path in paths:
        with suppress(OSError):
            yield os.stat(path).st_dev


def _is_of_the_shell(status: os.stat_result) -> bool:
    """All pipes without a name live in one file system (Linux 6.12 fs/pipe.c, pipefs)."""
    if not stat.S_ISFIFO(status.st_mode):
        return False
    ends = os.pipe()
    try:
        return os.fstat(ends[0]).st_dev == status.st_dev
    finally:
        for end in ends:
            os.close(end)

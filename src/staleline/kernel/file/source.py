# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes by offset, from memory or from a file of which only parts are wanted."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from staleline.errors import KernelImageError
from staleline.inputfile import opened_input

__all__ = ["ByteSource", "FileBytes", "MemoryBytes", "PartBytes", "file_digest", "opened_file"]

_LARGEST_FILE = 2 << 30  # a vmlinux with debug information has about 1 GiB


class ByteSource(Protocol):
    """What an image is read from.

    Attributes:
        where: How messages call it.
        size: Length in bytes.
    """

    @property
    def where(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102

    def read(self, offset: int, size: int) -> memoryview:
        """Exactly these bytes.

        Raises:
            KernelImageError: They are not all there.
        """


@dataclass(frozen=True, slots=True)
class MemoryBytes:
    """Bytes in memory; what is read shares them."""

    where: str
    data: memoryview

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def read(self, offset: int, size: int) -> memoryview:
        """Exactly these bytes, see `ByteSource.read`."""
        _require_range(self, offset, size)
        return self.data[offset : offset + size]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class FileBytes:
    """An open regular file."""

    where: str
    file: BinaryIO
    size: int

    def read(self, offset: int, size: int) -> memoryview:
        """Exactly these bytes, see `ByteSource.read`."""
        _require_range(self, offset, size)
        # Not mapped: a mapped file that a build truncates kills the reader with SIGBUS.
        content = memoryview(os.pread(self.file.fileno(), size, offset))
        if len(content) != size:
            raise _truncated(self.where, offset, size, offset + len(content))
        return content


@dataclass(frozen=True, slots=True)
class PartBytes:
    """A range of another source, `start` and `size` in bytes; it must lie inside."""

    where: str
    whole: ByteSource
    start: int
    size: int

    def read(self, offset: int, size: int) -> memoryview:
        """Exactly these bytes, see `ByteSource.read`."""
        _require_range(self, offset, size)
        return self.whole.read(self.start + offset, size)


@contextmanager
def opened_file(path: str) -> Iterator[FileBytes]:
    """A regular file, open inside.

    Raises:
        KernelImageError: It is none, or cannot be read, now or inside.
    """
    with opened_input(path, KernelImageError, pipes=False) as file:
        yield FileBytes(path, file, os.fstat(file.fileno()).st_size)


def _require_range(source: ByteSource, offset: int, size: int) -> None:
    if offset + size > source.size:
        raise _truncated(source.where, offset, size, source.size)


def _truncated(where: str, offset: int, size: int, end: int) -> KernelImageError:
    return KernelImageError(
        f"{size} bytes expected at {offset:#x}, the data ends at {end:#x}",
        where=f"{where}+{min(offset, end):#x}",
        do="the file is truncated, copy it again",
    )


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: It cannot be read, or is larger than any image or package.
    """
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > _LARGEST_FILE:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return hashlib.file_digest(file, "sha256").hexdigest()

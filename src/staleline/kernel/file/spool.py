# SPDX-License-Identifier: GPL-2.0-or-later
"""What is too large to be kept in memory, unpacked into a file that nobody else sees.

A vmlinux with debug information has about a gigabyte, of which a tenth is the kernel.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from contextlib import ExitStack
from typing import IO, Final

from staleline.errors import KernelImageError
from staleline.kernel.file.source import ByteSource, FileBytes
from staleline.unpacking import Bounds, Complaint, UnpackedStream, compression_of

__all__ = ["MAX_SPOOLED", "is_stream", "spooled", "unpacked_image"]

MAX_SPOOLED: Final = 2 << 30
"""Most bytes that are unpacked into a file: as many as an image by itself may have."""

_PIECE: Final = 1 << 20
#: What can be unpacked piece by piece.
_METHODS: Final = frozenset({"gzip", "xz", "zstd", "bzip2", "lzma"})


def is_stream(head: memoryview) -> bool:
    """Is it a compressed file of which the content may be an image?"""
    return compression_of(head) in _METHODS


def unpacked_image(file: ByteSource) -> FileBytes:
    """What a compressed file unpacks to, e.g. the vmlinux of a vmlinux.gz.

    Raises:
        KernelImageError: It is damaged, or larger than any image.
    """
    parts = iter(range(0, file.size, _PIECE))

    def read() -> bytes:
        at = next(parts, None)
        return b"" if at is None else bytes(file.read(at, min(_PIECE, file.size - at)))

    complaint = Complaint(
        KernelImageError, f"{file.where}+0x0", "the file is damaged, copy it again"
    )
    # Once, as its parts are read in no order: what is compressed can only be read from its start.
    stream = UnpackedStream(read, Bounds(MAX_SPOOLED), complaint)
    return spooled(stream, None, f"{file.where} (unpacked)")


def spooled(stream: UnpackedStream, size: int | None, where: str) -> FileBytes:
    """The next bytes of a stream, in a file.

    Args:
        stream: Where they come from.
        size: How many; None for all there are.
        where: How messages call them.

    Raises:
        KernelImageError: There are fewer, or more than `MAX_SPOOLED`, or the disk is full.
    """
    file = tempfile.TemporaryFile(prefix="staleline-")  # noqa: SIM115 - as long as it is read
    with ExitStack() as undone:
        undone.callback(file.close)
        written = _write(stream, size, where, file)
        undone.pop_all()
    content = FileBytes(where, file, written)
    # Whoever reads a source does not close it: sources in memory have nothing to close.
    weakref.finalize(content, file.close)
    return content


def _write(stream: UnpackedStream, size: int | None, where: str, file: IO[bytes]) -> int:
    """Write what `spooled` is to hold, and tell how many bytes that are."""
    written = 0
    try:
        while size is None or written < size:
            piece = stream.read(_PIECE if size is None else min(_PIECE, size - written))
            if not piece:
                break
            file.write(piece)
            written += len(piece)
        file.flush()
    except OSError as error:
        do = f"make room in {tempfile.gettempdir()}, or set TMPDIR"
        raise KernelImageError(
            f"cannot be unpacked: {os.strerror(error.errno or 0)}", where=where, do=do
        ) from None
    if size is not None and written < size:
        raise KernelImageError(
            f"{written} of {size} bytes are there", where=where, do="copy the file again"
        )
    return written

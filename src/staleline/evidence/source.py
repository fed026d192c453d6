# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes and text of an evidence file, bounded and with every failure named.

Dumps come plain, gzip, xz, zstd or bzip2 compressed; a file may also be a pipe
(``staleline facts <(cpuid -r)``). Nothing larger than `MAX_BYTES` is taken in, before
or after decompression, except archives, which are read as streams.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

import zstandard

from staleline.errors import EvidenceError

__all__ = [
    "MAX_BYTES",
    "Stream",
    "begins_tar",
    "decode",
    "decompressed",
    "is_tar",
    "opened",
    "read_bytes",
]

#: The largest dump known (768 logical CPUs, every leaf) is below 4 MiB.
MAX_BYTES = 64 << 20

_XZ_MAGIC = b"\xfd7zXZ\0"
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BZIP2_MAGIC = re.compile(rb"BZh[1-9]\x31\x41\x59\x26\x53\x59")
_XZ_MEMORY = _ZSTD_WINDOW = 256 << 20
#: What the decompressors raise of data that is not whole.
_DAMAGED = (lzma.LZMAError, zlib.error, zstandard.ZstdError, gzip.BadGzipFile, EOFError)
_TOO_LARGE = f"is larger than {MAX_BYTES >> 20} MiB, which no CPUID dump or snapshot is"
_DO_WHOLE = "make the file again and check it was copied whole"


class Stream(Protocol):
    """Bytes that are read once, in order."""

    def read(self, size: int = ..., /) -> bytes:
        """At most `size` bytes; none at the end."""


@contextmanager
def opened(path: str) -> Iterator[Stream]:
    """The decompressed bytes of a regular file as a stream.

    Raises:
        EvidenceError: The file cannot be opened, or what is read of it is damaged.
    """
    try:
        with open(path, "rb") as file:
            yield _stream(file)
    except _DAMAGED as error:
        raise EvidenceError(
            f"is damaged compressed data: {error}", where=path, do=_DO_WHOLE
        ) from error
    except OSError as error:
        raise _unreadable(error, path) from error


def begins_tar(path: str) -> bool:
    """Does a regular file hold a tar archive, compressed or not? False if it is damaged."""
    try:
        with opened(path) as stream:
            start = b""
            while len(start) < 512 and (piece := stream.read(512 - len(start))):
                start += piece
            return is_tar(start)
    except EvidenceError:
        return False


def is_tar(start: bytes) -> bool:
    """Do the first 512 bytes of a file begin a tar archive (POSIX or GNU)?"""
    return start[257:262] == b"ustar"


def _stream(file: BinaryIO) -> Stream:
    start = file.read(6)
    file.seek(0)
    if start.startswith(_XZ_MAGIC):
        return _XzStream(file)
    if start.startswith(_GZIP_MAGIC):
        return gzip.GzipFile(fileobj=file)
    if start.startswith(_ZSTD_MAGIC):
        return _zstd().stream_reader(file, read_across_frames=True)
    return file


def read_bytes(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file or pipe, at most `limit` of them.

    Raises:
        EvidenceError: The file cannot be opened or read, or is larger than `limit`.
    """
    where = os.fspath(path)
    try:
        # The check comes after opening: a path can change between stat and open, and
        # O_NONBLOCK keeps a device from blocking before it is refused.
        with open(path, "rb", opener=_open_nonblocking) as file:
            _require_file_or_pipe(os.fstat(file.fileno()), where)
            os.set_blocking(file.fileno(), True)
            data = file.read(limit + 1)
    except ValueError as error:  # a NUL in the path
        raise EvidenceError(f"is not a path ({error})", where=where) from error
    except OSError as error:
        raise _unreadable(error, where) from error
    if len(data) > limit:
        raise EvidenceError(_TOO_LARGE, where=where, do="give one dump per machine")
    return data


def decode(data: bytes, where: str) -> str:
    """Return `data` as text: UTF-8 or UTF-16 with a byte-order mark, else UTF-8 or Latin-1.

    Raises:
        EvidenceError: `data` is empty, holds NUL bytes, or contradicts its byte-order mark.
    """
    return _with_line_feeds(_decode(data, where))


#: As Windows editors save text, with or without a byte-order mark: ASCII, a zero in each pair.
_UTF16_LE, _UTF16_BE = re.compile(rb"(?:[\t\r\n -~]\0){8}"), re.compile(rb"(?:\0[\t\r\n -~]){8}")


def _decode(data: bytes, where: str) -> str:
    if not data.strip():
        raise EvidenceError("is empty", where=where, do=_DO_WHOLE)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode_utf16(data, where, "utf-16")
    for pattern, encoding in ((_UTF16_LE, "utf-16-le"), (_UTF16_BE, "utf-16-be")):
        if pattern.match(data):
            return _decode_utf16(data, where, encoding)
    if (offset := data.find(0)) >= 0:
        raise EvidenceError(
            "is binary, not a text dump",
            where=f"{where}+{offset:#x}",
            do="give the text output of cpuid -r, AIDA64 or libcpuid, or a snapshot",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Brand strings are raw register bytes; every line that matters is ASCII.
        return data.decode("latin-1")


def _with_line_feeds(text: str) -> str:
    """`text` with the line ends of Unix, whether it had those of DOS, of old Macs or both."""
    if "\r" not in text:
        return text
    text = re.sub("\r+\n", "\n", text)
    return text if "\n" in text else text.replace("\r", "\n")


def _decode_utf16(data: bytes, where: str, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise EvidenceError(
            "begins as UTF-16 text and is not", where=f"{where}+{error.start:#x}", do=_DO_WHOLE
        ) from error


def _open_nonblocking(path: str, flags: int) -> int:
    # A pipe must still block until its writer opens it: O_NONBLOCK would read nothing.
    nonblocking = 0 if stat.S_ISFIFO(os.stat(path).st_mode) else os.O_NONBLOCK
    return os.open(path, flags | nonblocking | os.O_CLOEXEC)


def _require_file_or_pipe(status: os.stat_result, where: str) -> None:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
        raise EvidenceError(
            "is neither a file nor a pipe",
            where=where,
            do="for this host's own registers use staleline collect",
        )


def _unreadable(error: OSError, where: str) -> EvidenceError:
    do = {
        FileNotFoundError: "check the path",
        PermissionError: "make it readable or run as a user who may read it",
        IsADirectoryError: "give the files in it",
    }.get(type(error))
    reason = error.strerror or str(error)
    return EvidenceError(f"cannot be read: {reason}", where=where, do=do)


def decompressed(data: bytes, where: str) -> bytes:
    """Return `data`, decompressed if it is gzip, xz, zstd or bzip2 data.

    Raises:
        EvidenceError: It is damaged, or larger than `MAX_BYTES` once decompressed.
    """
    if data.startswith(_XZ_MAGIC):
        return _unxz(data, where)
    if data.startswith(_GZIP_MAGIC):
        return _gunzip(data, where)
    if data.startswith(_ZSTD_MAGIC):
        return _unzstd(data, where)
    if _BZIP2_MAGIC.match(data):
        return _unbzip2(data, where)
    return data


def _unbzip2(data: bytes, where: str) -> bytes:
    decompressor = bz2.BZ2Decompressor()
    try:
        text = decompressor.decompress(data, MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise EvidenceError(f"is damaged bzip2 data: {error}", where=where, do=_DO_WHOLE) from error
    return _whole(text, complete=decompressor.eof, where=where)


def _unxz(data: bytes, where: str) -> bytes:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    try:
        text = decompressor.decompress(data, MAX_BYTES + 1)
    except lzma.LZMAError as error:
        raise EvidenceError(f"is damaged xz data: {error}", where=where, do=_DO_WHOLE) from error
    return _whole(text, complete=decompressor.eof, where=where)


def _gunzip(data: bytes, where: str) -> bytes:
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        text = decompressor.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise EvidenceError(f"is damaged gzip data: {error}", where=where, do=_DO_WHOLE) from error
    return _whole(text, complete=decompressor.eof, where=where)


def _zstd() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)


def _unzstd(data: bytes, where: str) -> bytes:
    decompressor = _zstd().decompressobj()
    try:
        with _zstd().stream_reader(data) as reader:
            text = reader.read(MAX_BYTES + 1)
        # The reader takes a frame that ends early for whole.
        complete = len(text) > MAX_BYTES or _ends(decompressor, data)
    except zstandard.ZstdError as error:
        raise EvidenceError(f"is damaged zstd data: {error}", where=where, do=_DO_WHOLE) from error
    return _whole(text, complete=complete, where=where)


def _ends(decompressor: zstandard.ZstdDecompressionObj, data: bytes) -> bool:
    decompressor.decompress(data)
    return bool(decompressor.eof)


class _XzStream:
    """xz data as a stream, with a bound on the memory it may ask for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int = -1, /) -> bytes:
        """At least one byte, at most `size`, and none at the end."""
        decompressor = self._decompressor
        while not decompressor.eof:
            piece = self._file.read(1 << 16) if decompressor.needs_input else b""
            if decompressor.needs_input and not piece:
                raise EOFError("it is cut short")
            if data := decompressor.decompress(piece, size):
                return data
        return b""


def _whole(text: bytes, *, complete: bool, where: str) -> bytes:
    if len(text) > MAX_BYTES:
        raise EvidenceError(f"decompressed, {_TOO_LARGE}", where=where)
    if not complete:
        raise EvidenceError("is compressed and cut short", where=where, do=_DO_WHOLE)
    return text

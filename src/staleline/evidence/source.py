# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes and text of an evidence file, bounded and with every failure named.

Dumps come plain, gzip, xz, zstd or bzip2 compressed; a file may also be a pipe
(``staleline facts <(cpuid -r)``). Nothing larger than `MAX_BYTES` is taken in, before
or after decompression, except archives, which are read as streams.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from staleline.errors import EvidenceError
from staleline.inputfile import opened_input
from staleline.unpacking import Bounds, Complaint, UnpackedStream

__all__ = ["MAX_BYTES", "decode", "opened_evidence", "whole"]

MAX_BYTES: Final = 16 << 20
"""The largest dump known (768 logical CPUs, every leaf) is below 4 MiB."""

#: Files of /sys take a block each, nearly all of it zeros, and compress by hundreds.
_BOUNDS: Final = Bounds(most=8 << 30, free=512 << 20, alone=True)
_READ: Final = 1 << 17
_DO_WHOLE = "make the file again and check it was copied whole"


@contextmanager
def opened_evidence(path: str | os.PathLike[str]) -> Iterator[UnpackedStream]:
    """The decompressed bytes of a regular file or a pipe as a stream.

    Raises:
        EvidenceError: The file cannot be opened, or what is read of it is damaged.
    """
    where = os.fspath(path)
    with opened_input(where, EvidenceError) as file:
        yield UnpackedStream(
            partial(file.read, _READ), _BOUNDS, Complaint(EvidenceError, where, _DO_WHOLE)
        )


def whole(stream: UnpackedStream) -> bytes:
    """All that is left of a stream.

    Raises:
        EvidenceError: It is damaged, or larger than `MAX_BYTES`.
    """
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        unpacked = "" if stream.method is None else "decompressed, "
        raise EvidenceError(
            f"{unpacked}is larger than {MAX_BYTES >> 20} MiB, which no dump or snapshot is",
            where=stream.complaint.where,
            do="give one dump per machine, or the lines of one boot",
        )
    return data


def decode(data: bytes, where: str) -> str:
    """Return `data` as text: UTF-8 or UTF-16 with a byte-order mark, else UTF-8 or Latin-1.

    Raises:
        EvidenceError: `data` is empty, binary, or contradicts its byte-order mark.
    """
    return _with_line_feeds(_decode(data, where))


#: As Windows editors save text, with or without a byte-order mark: ASCII, a zero in each pair.
_UTF16 = {"utf-16-le": rb"(?:[\t\r\n -~]\0){8}", "utf-16-be": rb"(?:\0[\t\r\n -~]){8}"}
#: What a log holds where the machine went down before it was written, and a console at a reset.
_HOLE = rb"\0+"
#: No terminal's: neither blanks, bell and backspace, nor the escape character.
_OF_NO_TEXT = rb"[\x01-\x06\x0e-\x1a\x1c-\x1f\x7f]"


def _is_text_with_holes(data: bytes) -> bool:
    """Are zeros the only bytes that no text has, and are the pieces between them long?"""
    holes = sum(1 for _ in re.finditer(_HOLE, data))
    words = len(data) - data.count(0)
    return words > 8 * holes and re.search(_OF_NO_TEXT, data) is None


def _decode(data: bytes, where: str) -> str:
    if not data.strip():
        raise EvidenceError("is empty", where=where, do=_DO_WHOLE)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode_utf16(data, where, "utf-16")
    offset = data.find(0)
    for encoding, pattern in _UTF16.items():
        if offset in (0, 1) and re.match(pattern, data):
            return _decode_utf16(data, where, encoding)
    if offset >= 0 and _is_text_with_holes(data):
        data = re.sub(_HOLE, b"\n", data)
    elif offset >= 0:
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

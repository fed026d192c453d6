# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that somebody put beside a host's, or into an archive or a directory by themselves.

Each may say something of the machine, so none is left out unseen: what is more than can be read is
refused, but for what is no text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from staleline.errors import EvidenceError
from staleline.evidence.cpuid.hwloc import is_member
from staleline.evidence.source import MAX_BYTES, decode
from staleline.inputfile import opened_input
from staleline.unpacking import compression_of

__all__ = ["LooseFiles", "files_beside", "is_of_layout"]

#: A supportconfig has about a hundred.
_MOST: Final = 1024
_MOST_BYTES: Final = 32 << 20
_HEAD: Final = 4096
_DO: Final = "give one machine's files, without what is no evidence of it"


class LooseFiles:
    """How many there are and how large, within bounds.

    Args:
        where: The archive or directory, for error messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._count = self._bytes = 0

    def is_to_read(self, name: str, size: int, head: Callable[[int], bytes]) -> bool:
        """May this be evidence, so that it is to be read?

        Args:
            name: Of the file.
            size: Its bytes.
            head: Gives its first bytes.

        Raises:
            EvidenceError: It is text, and more than is read.
        """
        if is_of_layout(name):
            return False
        if size > MAX_BYTES:
            if _is_text(head(_HEAD)):
                raise self._refused(
                    f"{name} is a text of more than {MAX_BYTES >> 20} MiB, which no dump is"
                )
            return False
        self._count += 1
        self._bytes += size
        if self._count > _MOST:
            raise self._refused(f"more than {_MOST} files lie beside those of a host")
        if self._bytes > _MOST_BYTES:
            raise self._refused(
                f"{name} is one of more than {_MOST_BYTES >> 20} MiB beside those of a host"
            )
        return True

    def _refused(self, what: str) -> EvidenceError:
        return EvidenceError(what, where=self._where, do=_DO)


def is_of_layout(name: str) -> bool:
    """Is it a file in a host's directories, and not one that somebody put beside them?"""
    return (
        re.search(r"(?:^|/)(?:proc|sys|sos_\w+|etc|var|usr|boot|lib(?:32|64)?|s?bin)/", name)
        is not None
    )


def files_beside(directory: str) -> dict[str, bytes]:
    """The files right in the directory of a host, by name, but for hwloc's; links lead to others.

    Raises:
        EvidenceError: One cannot be read, or they are more than are read.
    """
    loose = LooseFiles(directory)
    return {
        entry.name: content
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name)
        if entry.is_file(follow_symlinks=False)
        and not is_member(entry.name)
        and (content := _content(entry.path, entry.name, loose)) is not None
    }


def _content(path: str, name: str, loose: LooseFiles) -> bytes | None:
    with opened_input(path, EvidenceError) as file:
        head = file.read(_HEAD)
        if not loose.is_to_read(name, os.fstat(file.fileno()).st_size, lambda _: head):
            return None
        return head + file.read(MAX_BYTES)


def _is_text(head: bytes) -> bool:
    if compression_of(head) is not None:
        return False
    try:
        decode(head, "")
    except EvidenceError:
        return False
    return True

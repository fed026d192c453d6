# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pages of a private mapping hold something of their own.

Linux says so in ``/proc/self/pagemap`` (Documentation/admin-guide/mm/pagemap.rst, 6.12): per
page a u64 in which bit 63 says that it is in memory, bit 62 that it is swapped out, and bit 61
that it is still the mapped file's. A page of this process is one of its own.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

import numpy as np

__all__ = ["touched_pages"]

_PAGEMAP: Final = "/proc/self/pagemap"
_ENTRY: Final = 8
_STATE = np.uint64(61)
#: Bits 61 to 63 of a page that is not in this process, and of one in memory that is the file's.
_ELSEWHERE, _OF_FILE = np.uint64(0b001), np.uint64(0b101)


def touched_pages(address: int, size: int) -> list[range] | None:
    """The pages written to since they were mapped or dropped by ``MADV_DONTNEED``.

    Args:
        address: Of a private mapping in this process, at a page's start.
        size: Its bytes.

    Returns:
        Ranges of offsets in the mapping, ascending and not adjacent; None where there is no
        pagemap. Pages of anonymous memory that were merely read may be among them.
    """
    entries = _entries(address // mmap.PAGESIZE, -(-size // mmap.PAGESIZE))
    if entries is None:
        return None
    state = entries >> _STATE
    touched = (state > _ELSEWHERE) & (state != _OF_FILE)
    edges = (np.flatnonzero(touched[1:] != touched[:-1]) + 1).tolist()
    starts_and_ends = [
        *([0] if touched[0] else []),
        *edges,
        *([len(touched)] if touched[-1] else []),
    ]
    at = iter(edge * mmap.PAGESIZE for edge in starts_and_ends)
    return [range(start, end) for start, end in zip(at, at, strict=True)]


def _entries(first: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]] | None:
    """The entries of these pages, or None if Linux does not tell."""
    try:
        with open(_PAGEMAP, "rb", buffering=0) as pagemap:
            data = os.pread(pagemap.fileno(), count * _ENTRY, first * _ENTRY)
    except OSError:
        return None
    return np.frombuffer(data, np.uint64) if len(data) == count * _ENTRY else None

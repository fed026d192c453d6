# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pages of a private mapping hold something of their own."""

from __future__ import annotations

import mmap
import os
import resource
import threading
from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np

__all__ = ["TouchedPages", "are_faults_counted", "page_faults"]

#: Per page a u64 in which bit 63 says that it is in memory, bit 62 that it is swapped out, and bit
#: 61 that it is still the mapped file's (Documentation/admin-guide/mm/pagemap.rst, 6.12).
_PAGEMAP: Final = "/proc/self/pagemap"
_ENTRY: Final = 8
_STATE = np.uint64(61)
#: Bits 61 to 63 of a page that is not in this process, and of one in memory that is the file's.
_ELSEWHERE, _OF_FILE = np.uint64(0b001), np.uint64(0b101)

_Entries = np.ndarray[tuple[int], np.dtype[np.uint64]]


class TouchedPages:
    """The pages of a private mapping that were written to since they were mapped or dropped.

    By one thread: what others write may be missed until this one has a page fault.

    Args:
        address: Of the mapping in this process, at a page's start.
        size: Its bytes.
        faults: How many page faults there were that may have touched any; None for all of this
            thread.
    """

    def __init__(self, address: int, size: int, faults: Callable[[], int] | None = None) -> None:
        self._first = address // mmap.PAGESIZE
        # Kept, since memory for it would be had by page faults, each time.
        self._entries = np.empty(-(-size // mmap.PAGESIZE), np.uint64)
        self._faults = faults
        self._seen: tuple[int, int] | None = None
        self._state = b""
        self._spans: list[range] | None = None

    def spans(self) -> list[range] | None:
        """Ranges of offsets in the mapping, ascending and not adjacent.

        The same list as before if they are the same. Pages of anonymous memory that were
        merely read may be among them. None where there is no pagemap.
        """
        # A page becomes one's own by a page fault. So while the thread that runs code in the
        # mapping has had none, which getrusage() tells in a hundredth of the time, there are no
        # others than there were.
        now = self._now()  # before looking, lest one is missed
        if self._spans is None or now is None or now != self._seen:
            if not _look_up(self._first, self._entries):
                return None
            # Most faults are of other memory of this process, and change nothing here.
            state = self._entries.tobytes()
            if self._spans is None or state != self._state:
                spans = _touched(self._entries)
                self._spans = self._spans if spans == self._spans else spans
                self._state = state
            self._seen = now
        return self._spans

    def _now(self) -> tuple[int, int] | None:
        """Equal as long as there are no others; None where that is not known."""
        if self._faults is not None:
            return 0, self._faults()
        return (threading.get_native_id(), page_faults()) if are_faults_counted() else None

    def forget(self) -> None:
        """Pages were dropped by ``MADV_DONTNEED``."""
        self._spans = None


def page_faults() -> int:
    """How many page faults this thread has had."""
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_minflt + usage.ru_majflt


@cache
def are_faults_counted() -> bool:
    """Does this system count them? It need not be Linux itself that runs this."""
    with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        before = page_faults()
        page[0] = 1
        return page_faults() > before


def _touched(entries: _Entries) -> list[range]:
    entries >>= _STATE
    touched = (entries > _ELSEWHERE) & (entries != _OF_FILE)
    edges = (np.flatnonzero(touched[1:] != touched[:-1]) + 1).tolist()
    starts_and_ends = [
        *([0] if touched[0] else []),
        *edges,
        *([len(touched)] if touched[-1] else []),
    ]
    at = iter(edge * mmap.PAGESIZE for edge in starts_and_ends)
    return [range(start, end) for start, end in zip(at, at, strict=True)]


def _look_up(first: int, entries: _Entries) -> bool:
    """Read the entries of these pages; False if Linux does not tell."""
    try:
        with open(_PAGEMAP, "rb", buffering=0) as pagemap:
            read = os.preadv(pagemap.fileno(), [entries.data], first * _ENTRY)
    except OSError:
        return False
    return read == entries.nbytes

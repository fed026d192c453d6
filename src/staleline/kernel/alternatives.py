# SPDX-License-Identifier: GPL-2.0-or-later
"""Code that the kernel patches in at boot, on CPUs with or without a feature.

``.altinstructions`` holds a ``struct alt_instr`` for each patch (asm/alternative.h): where, from
where, for which feature, and both lengths; 12 bytes in 5.10.262 and 6.1.192, 14 since 6.3. What
is patched in lies in ``.altinstr_replacement``, in the order of ``.altinstructions`` or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from staleline.kernel.image import KernelImage

__all__ = ["patches_with"]

_PATCHES: Final = ".altinstructions"
_REPLACEMENTS: Final = ".altinstr_replacement"
_ENTRY_SIZES: Final = (12, 14)


def patches_with(image: KernelImage, pattern: bytes) -> Iterator[tuple[int, bytes]]:
    """Address of the patched code and what is patched in, where that contains the bytes.

    Nothing without these sections, or if their layout is none of the above.
    """
    if not {_PATCHES, _REPLACEMENTS} <= image.sections.keys():
        return
    table, start = image.section_bytes(_PATCHES), image.sections[_PATCHES].virtual_address
    code, base = image.section_bytes(_REPLACEMENTS), image.sections[_REPLACEMENTS].virtual_address
    for size in _ENTRY_SIZES:
        if len(table) % size == 0:
            places, sources, lengths = _entries(table, start - base, size)
            if np.all((sources >= 0) & (sources + lengths <= len(code))):
                for index in _holding(code, pattern, sources, lengths):
                    patch = code[sources[index] : sources[index] + lengths[index]]
                    yield start + int(places[index]), patch
                return


def _entries(
    table: bytes, distance: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Per entry: where it patches, from the table; where from, from the replacements; length.

    Args:
        table: The entries; two addresses, each relative to its own place, come first.
        distance: From the replacements to the table.
        size: Bytes of an entry; the last one is the length of the replacement.
    """
    entries = np.frombuffer(table, np.uint8).reshape(-1, size)
    relative = np.ascontiguousarray(entries[:, :8]).view("<i4").astype(np.int64)
    own = size * np.arange(len(entries), dtype=np.int64)
    return (
        own + relative[:, 0],
        own + 4 + relative[:, 1] + distance,
        entries[:, -1].astype(np.int64),
    )


def _holding(
    code: bytes, pattern: bytes, sources: NDArray[np.int64], lengths: NDArray[np.int64]
) -> list[int]:
    """Indices of the entries whose replacement holds the pattern."""
    found: set[int] = set()
    at = code.find(pattern)
    while at >= 0:
        inside = (sources <= at) & (at + len(pattern) <= sources + lengths)
        found.update(np.flatnonzero(inside).tolist())
        at = code.find(pattern, at + 1)
    return sorted(found)

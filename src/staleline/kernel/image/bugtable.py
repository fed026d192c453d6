# SPDX-License-Identifier: GPL-2.0-or-later
"""Which undefined instructions of a kernel are WARNs: it logs them and goes on.

Every other one is a BUG, or no part of the kernel at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from staleline.kernel.image.image import KernelImage

__all__ = ["warning_addresses"]

#: One struct bug_entry per ud2 (include/asm-generic/bug.h): the address, a format string since
#: 6.19, file and line with CONFIG_DEBUG_BUGVERBOSE, and flags.
_SECTION: Final = "__bug_table"
#: Bytes of an entry, and 16-bit words before its flags: with file and line and without, until 6.18
#: and since.
_SHAPES: Final = ((12, 5), (8, 2), (16, 7), (12, 4))
_BUGFLAG_WARNING: Final = 1 << 0
_BUGFLAG_ARGS: Final = 1 << 4
_UD2: Final = b"\x0f\x0b"
_PROBES: Final = 32


def warning_addresses(image: KernelImage) -> frozenset[int]:
    """Addresses of the ``ud1`` and ``ud2`` instructions that only warn."""
    # Since 6.19 a WARN with a message goes through __WARN_trap(), whose one instruction is ud1; its
    # entries carry BUGFLAG_ARGS and name no undefined instruction (7.3 arch/x86/include/asm/bug.h).
    trap = image.symbols.address("__WARN_trap")
    shared = frozenset() if trap is None else frozenset((trap,))
    section = image.sections.get(_SECTION)
    if section is None:
        return shared
    content = image.section_bytes(_SECTION)
    for size, before_flags in _SHAPES:
        entries = _entries(content, size)
        addresses = _bug_addresses(entries, section.virtual_address, size)
        flags = entries[:, before_flags]
        direct = addresses[flags & _BUGFLAG_ARGS == 0]
        # Where entries are padded, the padding of all of them is zero, and flags are not.
        if flags.any() and all(_is_ud2(image, int(address)) for address in direct[:_PROBES]):
            warns = flags & (_BUGFLAG_WARNING | _BUGFLAG_ARGS) == _BUGFLAG_WARNING
            return shared | frozenset(addresses[warns].tolist())
    return shared


def _entries(content: bytes, size: int) -> NDArray[np.uint16]:
    """One row of 16-bit words per entry."""
    usable = len(content) // size * size
    return np.frombuffer(content[:usable], dtype="<u2").reshape(-1, size // 2)


def _bug_addresses(entries: NDArray[np.uint16], start: int, size: int) -> NDArray[np.uint64]:
    """``bug_addr`` is relative to its own place."""
    displacements = np.ascontiguousarray(entries[:, :2]).view("<i4")[:, 0]
    places = np.uint64(start) + np.arange(len(entries), dtype=np.uint64) * np.uint64(size)
    return places + displacements.astype(np.int64).view(np.uint64)


def _is_ud2(image: KernelImage, address: int) -> bool:
    return (
        any(
            segment.virtual_address <= address < segment.virtual_address + segment.memory_size - 1
            for segment in image.segments
        )
        and image.read(address, 2) == _UD2
    )

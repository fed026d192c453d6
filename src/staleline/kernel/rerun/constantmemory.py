# SPDX-License-Identifier: GPL-2.0-or-later
"""What no running kernel changes: code and read-only data, and pages written for each run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from staleline.kernel.image.symbols import SymbolTable

__all__ = ["variable_memory"]

#: include/asm-generic/vmlinux.lds.h and arch/x86/kernel/vmlinux.lds.S, 5.10 to 7.3. Around what is
#: read-only only after initialisation, which a boot sets.
_BOUNDS: Final = (
    ("_text", "_etext"),
    ("_sinittext", "_einittext"),
    ("__start_rodata", "__start_ro_after_init"),
    ("__end_ro_after_init", "__end_rodata"),
)


def variable_memory(symbols: SymbolTable, written_anew: Iterable[range]) -> list[range]:
    """All other addresses, ascending; what an image does not name is taken for variable.

    Args:
        symbols: The image's.
        written_anew: Addresses of memory that is written before each run of a site.
    """
    bounds = [(symbols.only_address(start), symbols.only_address(end)) for start, end in _BOUNDS]
    known = [range(a, b) for a, b in bounds if a is not None and b is not None]
    variable, start = [], 0
    for constant in sorted((*known, *written_anew), key=lambda part: part.start):
        if start < constant.start:
            variable.append(range(start, constant.start))
        start = max(start, constant.stop)
    return [*variable, range(start, 1 << 64)]

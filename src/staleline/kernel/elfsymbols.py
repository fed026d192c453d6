# SPDX-License-Identifier: GPL-2.0-or-later
"""The ELF symbol table of a vmlinux that was not stripped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from staleline.kernel.elf import ElfFile
from staleline.kernel.symbols import SymbolTable

__all__ = ["read_symbol_table"]

_SYMBOL = np.dtype(
    [
        ("name", "<u4"),
        ("info", "u1"),
        ("other", "u1"),
        ("section", "<u2"),
        ("value", "<u8"),
        ("size", "<u8"),
    ]
)
_STT_SECTION = 3
_STT_FILE = 4
_SHN_UNDEF = 0
_SHN_ABS = 0xFFF1


class _StringTableNames:
    """Names as offsets into a string table."""

    def __init__(self, strings: bytes, offsets: NDArray[np.uint32]) -> None:
        self._strings = strings
        self._offsets = offsets

    def name(self, index: int) -> str:
        """Name of one symbol."""
        start = int(self._offsets[index])
        end = self._strings.find(b"\0", start)
        return self._strings[start : end if end >= 0 else None].decode("utf-8", "replace")

    def find(self, name: str) -> Sequence[int]:
        """Indices of all symbols of that name; a name may also be the tail of a longer one."""
        wanted = name.encode() + b"\0"
        places = []
        at = self._strings.find(wanted)
        while at >= 0:
            places.append(at)
            at = self._strings.find(wanted, at + 1)
        found: list[int] = np.flatnonzero(np.isin(self._offsets, places)).tolist()
        return found


def read_symbol_table(elf: ElfFile) -> SymbolTable | None:
    """Symbols of ``.symtab``; None if the file has none.

    Absolute symbols are left out, as in ``mksysmap`` and kallsyms, since they are values
    and not places; a zero-based per-CPU symbol belongs to its section and stays.
    """
    section = elf.section(".symtab")
    if section is None or section.link >= len(elf.sections):
        return None
    table = elf.bytes_of(section)
    symbols = np.frombuffer(table[: len(table) // _SYMBOL.itemsize * _SYMBOL.itemsize], _SYMBOL)
    kind = symbols["info"] & 0xF
    places = ~np.isin(kind, (_STT_SECTION, _STT_FILE))
    places &= ~np.isin(symbols["section"], (_SHN_UNDEF, _SHN_ABS)) & (symbols["name"] != 0)
    symbols = symbols[places]
    if not len(symbols):
        return None
    symbols = symbols[np.argsort(symbols["value"], kind="stable")]
    strings = bytes(elf.bytes_of(elf.sections[section.link]))
    return SymbolTable(
        symbols["value"].astype(np.uint64), _StringTableNames(strings, symbols["name"])
    )

# SPDX-License-Identifier: GPL-2.0-or-later
"""The ELF symbol table of a vmlinux that was not stripped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from staleline.errors import KernelImageError
from staleline.kernel.file.elf import ElfFile, ElfSection
from staleline.kernel.image.symbols import SymbolTable

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
_MAX_TABLE = 48 << 20  # bytes; distribution kernels have 8 MiB of symbols and of names
_LONGEST_NAME = 4096
_STT_SECTION = 3
_STT_FILE = 4
_SHN_UNDEF = 0
_SHN_ABS = 0xFFF1


class _StringTableNames:
    """Names as offsets into a string table."""

    def __init__(self, strings: memoryview, offsets: NDArray[np.uint32]) -> None:
        self._strings = strings
        self._letters = np.frombuffer(strings, np.uint8)
        self._offsets = offsets.astype(np.int64)

    def name(self, index: int) -> str:
        """Name of one symbol."""
        start = int(self._offsets[index])
        text = bytes(self._strings[start : start + _LONGEST_NAME])
        return text.split(b"\0", 1)[0].decode("utf-8", "replace")

    def find(self, name: str) -> Sequence[int]:
        """Indices of all symbols of that name."""
        wanted = name.encode() + b"\0"
        left = np.flatnonzero(self._offsets + len(wanted) <= len(self._letters))
        # Letter by letter, among the symbols that agree so far: no string table makes this slow,
        # and a name may be the tail of a longer one.
        for at, letter in enumerate(wanted):
            left = left[self._letters[self._offsets[left] + at] == letter]
        indices: list[int] = left.tolist()
        return indices


def read_symbol_table(elf: ElfFile) -> SymbolTable | None:
    """Symbols of ``.symtab``; None if the file has none.

    Raises:
        KernelImageError: The tables are larger than a kernel's can be.
    """
    section = elf.section(".symtab")
    if section is None or section.link >= len(elf.sections):
        return None
    table = _table(elf, section)
    symbols = np.frombuffer(table[: len(table) // _SYMBOL.itemsize * _SYMBOL.itemsize], _SYMBOL)
    kind = symbols["info"] & 0xF
    places = ~np.isin(kind, (_STT_SECTION, _STT_FILE))
    # Without absolute symbols, as in mksysmap and kallsyms: they are values and not places. A
    # zero-based per-CPU symbol belongs to its section and stays.
    places &= ~np.isin(symbols["section"], (_SHN_UNDEF, _SHN_ABS)) & (symbols["name"] != 0)
    symbols = symbols[places]
    if not len(symbols):
        return None
    symbols = symbols[np.argsort(symbols["value"], kind="stable")]
    strings = _table(elf, elf.sections[section.link])
    return SymbolTable(
        symbols["value"].astype(np.uint64), _StringTableNames(strings, symbols["name"])
    )


def _table(elf: ElfFile, section: ElfSection) -> memoryview:
    if section.file_size > _MAX_TABLE:
        raise KernelImageError(
            f"section {section.name} of {section.file_size} bytes, the limit is {_MAX_TABLE}",
            where=elf.where,
            do="the file is corrupt or no kernel, copy it again",
        )
    return elf.bytes_of(section)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Static functions and variables under the names they have in the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from staleline.kernel.image.symbols import SymbolTable

__all__ = ["promoted_symbols"]

#: ThinLTO lets one file use what is static in another; such a symbol becomes global, and its name
#: gets this and the hash of its file behind it (LLVM 19, ModuleSummaryIndex.h,
#: ``getGlobalNameForLocal()``). kallsyms has it that way (scripts/kallsyms.c, 6.12).
_MARK: Final = ".llvm."


def promoted_symbols(symbols: SymbolTable) -> Mapping[str, int]:
    """Name in the source -> link address, where only one symbol can be meant by it."""
    promoted = [
        (name.partition(_MARK)[0], address) for name, address in symbols.listed() if _MARK in name
    ]
    bearers = Counter(name for name, _ in promoted)
    return {
        name: address for name, address in promoted if bearers[name] == 1 and name not in symbols
    }

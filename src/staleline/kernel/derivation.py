# SPDX-License-Identifier: GPL-2.0-or-later
"""The one way a reading can stop short."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from staleline.kernel.image.symbols import SymbolTable

__all__ = ["DerivationError", "required_address"]


class DerivationError(Exception):
    """What a kernel does could not be established; the text says where and why.

    It never leaves `staleline.kernel.sites.runner`, which turns it into an unknown decision.
    """


def required_address(symbols: SymbolTable, name: str) -> int:
    """Link address of a symbol that the reading cannot do without.

    Raises:
        DerivationError: There is none of that name, or more than one.
    """
    address = symbols.address(name)
    if address is None:
        raise DerivationError(f"the image has no symbol {name}")
    return address

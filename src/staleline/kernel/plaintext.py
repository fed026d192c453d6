# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts of an image on their way to a terminal, which would obey what is not printable."""

from __future__ import annotations

from typing import Any

__all__ = ["printable", "printable_values"]


def printable(text: str) -> str:
    r"""The text, with everything that is not printable as a number.

    >>> printable("6.12\x1b[31m")
    '6.12\\x1b[31m'
    """
    if text.isprintable():
        return str(text)  # of an enumeration too
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def printable_values(value: Any) -> Any:
    """The same for every text in a document, keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable_values(key): printable_values(one) for key, one in value.items()}
    return [printable_values(one) for one in value] if isinstance(value, list) else value

# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody else's text on its way to a terminal or a page, which would obey some of it.

Everything that is written goes through here: names of files and of members of archives, what
snapshots, policies and images say. Escape sequences, controls, characters that turn the order
of text round or take no place, and line ends are shown as numbers.
"""

from __future__ import annotations

from typing import Any

__all__ = ["printable", "printable_lines", "printable_values"]


def printable(text: str) -> str:
    r"""The text on one line, with everything that is not printable as a number.

    >>> printable("6.12\x1b[31m")
    '6.12\\x1b[31m'
    """
    if text.isprintable():
        return str(text)  # of an enumeration too
    return "".join(c if c.isprintable() else _number(c) for c in text)


def printable_lines(text: str) -> str:
    """The same for text of several lines, which stay lines."""
    return str(text) if text.isprintable() else "\n".join(map(printable, text.split("\n")))


def printable_values(value: Any) -> Any:
    """The same for every text in a document, keys included."""
    if isinstance(value, str):
        return printable_lines(value)
    if isinstance(value, dict):
        return {printable_values(key): printable_values(part) for key, part in value.items()}
    return [printable_values(part) for part in value] if isinstance(value, list | tuple) else value


def _number(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

# SPDX-License-Identifier: GPL-2.0-or-later
"""Text inside Markdown."""

from __future__ import annotations

import re

from staleline.printable import printable, printable_lines

__all__ = ["escaped", "prose"]

#: Characters that mean something to CommonMark or its tables inside a line.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def escaped(text: str) -> str:
    """Text that means itself, on one line."""
    return _MARKUP.sub(r"\\\1", printable(" ".join(text.split())))


def prose(text: str) -> str:
    """The same, but what stands between backquotes is code."""
    parts = printable_lines(text).split("`")
    return "`".join(part if i % 2 else _MARKUP.sub(r"\\\1", part) for i, part in enumerate(parts))

# SPDX-License-Identifier: GPL-2.0-or-later
"""Regular expressions that cost nothing until something is looked for with them.

Every reader of evidence has some, and compiling those of all formats takes longer than reading a
dump of one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property

__all__ = ["Pattern"]


class Pattern:
    """A regular expression, compiled when it is first used; the methods are those of `re`."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self.pattern = pattern
        self._flags = flags

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, self._flags)

    def match(self, text: str, start: int = 0) -> re.Match[str] | None:
        """At `start`."""
        return self._compiled.match(text, start)

    def fullmatch(self, text: str, start: int = 0) -> re.Match[str] | None:
        """From `start` to the end."""
        return self._compiled.fullmatch(text, start)

    def search(self, text: str, start: int = 0) -> re.Match[str] | None:
        """The first from `start` on."""
        return self._compiled.search(text, start)

    def finditer(self, text: str) -> Iterator[re.Match[str]]:
        """All, one after the other."""
        return self._compiled.finditer(text)

    def findall(self, text: str) -> list[str]:
        """The texts, of a pattern with at most one group."""
        return self._compiled.findall(text)

    def sub(self, new: str | Callable[[re.Match[str]], str], text: str, count: int = 0) -> str:
        """Replace all, or `count`."""
        return self._compiled.sub(new, text, count)

    def split(self, text: str, most: int = 0) -> list[str]:
        """What is between them."""
        return self._compiled.split(text, most)

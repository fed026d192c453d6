# SPDX-License-Identifier: GPL-2.0-or-later
"""The row of CPU flags, as it was printed or as a terminal or mail program wrapped it."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import takewhile

from staleline.pattern import Pattern

__all__ = ["flag_row", "flags_of"]

_WORDS = Pattern(r"\s*[a-z0-9_]+(?:\s+[a-z0-9_]+)*\s*")
#: Longer rows are not wrapped: no terminal is that wide.
_WIDEST = 600


def flag_row(value: str, behind: Sequence[str]) -> frozenset[str]:
    """The flags of a row with `value`, behind which the text goes on with the lines `behind`."""
    continued = list(takewhile(_WORDS.fullmatch, behind))
    return flags_of([value, *continued], ends_text=len(continued) == len(behind))


def flags_of(pieces: Sequence[str], *, ends_text: bool) -> frozenset[str]:
    """The flags that the row shows for certain.

    Args:
        pieces: Its lines, without what stands before the flags.
        ends_text: Nothing follows the row, so the rest of its last word may be lost.
    """
    flags: list[str] = []
    last: str | None = None
    for number, piece in enumerate(pieces):
        words = piece.split()
        if not words:
            continue
        if number:
            joined, split = _across_the_break(last, words[0])
            flags += split[:-1]
            words = words[1:]
            last = joined if joined is not None else (split[-1] if split else None)
            if not words:
                continue
            if last is not None:
                flags.append(last)
        flags += words[:-1]
        last = words[-1]
    cut = ends_text and (len(pieces) > 1 or len(pieces[0]) <= _WIDEST)
    if last is not None and not cut:
        flags.append(last)
    return frozenset(flags)


def _across_the_break(before: str | None, after: str) -> tuple[str | None, list[str]]:
    """The one word that a line's end cut, or the two beside it, or neither if it is unsure."""
    if before is None:
        return None, []
    known = _known_flags()
    # A flag proves something by its presence, so a word that a line's end may have cut counts only
    # if it is certain what it was: neither the whole nor the halves are made up.
    apart, together = before in known and after in known, before + after in known
    if together and not apart:
        return before + after, []
    return (None, [before, after]) if apart and not together else (None, [])


@cache
def _known_flags() -> frozenset[str]:
    text = files(__package__).joinpath("cpuflags.toml").read_text("utf-8")
    return frozenset(tomllib.loads(text)["flags"].split())

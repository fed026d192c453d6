# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of a fleet for a spreadsheet, which would run what it takes for a formula."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from staleline.fleet.statements import quoted

__all__ = ["for_sheets"]

#: How a formula begins.
_FORMULA = "^[=+@\\t\\r-]"
#: Columns of numbers, which may be below zero. Each other one may have somebody else's words, as a
#: vendor's string of CPUID has a hypervisor's.
_NUMBERS = frozenset({"collected", "class", "flush_ms", "age"})


def for_sheets(
    statement: str, columns: Sequence[str], asked: Mapping[str, str | None] | None = None
) -> str:
    """The same rows, with an apostrophe before everything that a formula could begin with.

    Args:
        statement: The rows.
        columns: Of them.
        asked: `statements.ASKED_COLUMNS` -> what was asked of all of them; None for nothing.
    """
    chosen = [
        f"{name if column in _NUMBERS else _guarded(name)} AS {quoted(_heading(column))}"
        for column in columns
        for name in (f"r.{quoted(column)}",)
    ]
    # A file of values has no other place for it, and a row that is of no host as it is would pass
    # for one that is.
    chosen += [f"{_guarded(_text(text))} AS {name}" for name, text in (asked or {}).items()]
    return f"SELECT {', '.join(chosen)} FROM ({statement}) r"


def _text(text: str | None) -> str:
    return "CAST(NULL AS VARCHAR)" if text is None else "'" + text.replace("'", "''") + "'"


def _guarded(text: str) -> str:
    return f"CASE WHEN regexp_matches({text}, '{_FORMULA}') THEN '''' || {text} ELSE {text} END"


def _heading(column: str) -> str:
    """The owner's columns may be called anything."""
    return f"'{column}" if re.match(_FORMULA, column) else column

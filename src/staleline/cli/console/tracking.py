# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress bars, whose library is imported when there is something to show."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["with_progress"]

_Item = TypeVar("_Item")


def with_progress(items: Iterable[_Item], label: str, total: int, /) -> Iterator[_Item]:
    """The items, with a progress bar on standard error while it is a terminal."""
    if not _is_terminal():
        yield from items
        return
    from staleline.report.words import progress

    yield from progress.tracked(items, label, total)


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except ValueError:  # it is closed
        return False

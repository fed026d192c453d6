# SPDX-License-Identifier: GPL-2.0-or-later
"""Progress on standard error; apart from the console because its library is slow to import."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from staleline.report.words.console import markup_escape

__all__ = ["tracked"]

_T = TypeVar("_T")


def tracked(items: Iterable[_T], label: str, total: int) -> Iterator[_T]:
    """The items, with a progress bar on standard error while it is a terminal."""
    console = Console(file=sys.stderr)
    yield from track(
        items,
        description=markup_escape(label),
        total=total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )

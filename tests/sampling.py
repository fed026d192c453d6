# SPDX-License-Identifier: GPL-2.0-or-later
"""What `make test` takes of products that take minutes; `make exhaustive` takes the whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import cycle, islice, product
from typing import Final, TypeVar

__all__ = ["EXHAUSTIVE", "covering", "every", "examples"]

EXHAUSTIVE: Final = "EXHAUSTIVE" in os.environ

_First = TypeVar("_First")
_Second = TypeVar("_Second")


def every(step: int, cases: Iterable[_First]) -> list[_First]:
    """One of so many; all if exhaustive."""
    return list(cases)[:: 1 if EXHAUSTIVE else step]


def covering(
    first: Sequence[_First], second: Sequence[_Second], *, exhaustive: bool = EXHAUSTIVE
) -> list[tuple[_First, _Second]]:
    """Pairs in which each of both occurs; all pairs if exhaustive."""
    if exhaustive:
        return list(product(first, second))
    count = max(len(first), len(second))
    return list(islice(zip(cycle(first), cycle(second), strict=False), count))


def examples(whole: int) -> int:
    """How many of so many drawn examples: a third, or all if exhaustive."""
    return whole if EXHAUSTIVE else whole // 3

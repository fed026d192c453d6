# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks that do not keep alive what they belong to."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeVar

__all__ = ["weakly"]

Result = TypeVar("Result")


def weakly(method: Callable[..., Result]) -> Callable[..., Result]:
    """The method, without keeping its object alive.

    The binding's callbacks refer to themselves, so what they hold would keep its memory, as
    much as an unpacked kernel, until the garbage collector comes by.
    """
    reference = weakref.WeakMethod(method)

    def call(*arguments: object) -> Result:
        alive = reference()
        assert alive is not None
        return alive(*arguments)

    return call

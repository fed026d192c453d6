# SPDX-License-Identifier: GPL-2.0-or-later
"""What could not be established: a sentence for people, and an id for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

__all__ = ["Unknown", "asked_once"]


class Unknown(str):
    """A sentence that says what is missing and how to get it.

    Attributes:
        id: Of its explanation, e.g. ``unknown-syscfg``.
        asks_for: The sentence of what has to be got, where this one says what for.
    """

    id: str
    asks_for: str

    def __new__(
        cls,
        text: str,
        id: str = "",  # noqa: A002 - its name in every document
        asks_for: str = "",
    ) -> Self:
        """A sentence with an id; a pickle sets the attributes afterwards."""
        self = super().__new__(cls, text)
        self.id = id
        self.asks_for = asks_for or text
        return self


def asked_once(reasons: Iterable[Unknown]) -> tuple[Unknown, ...]:
    """Each once, without those that ask for what another asks for in its own right."""
    asked = tuple(dict.fromkeys(reasons))
    plain = {reason.asks_for for reason in asked if reason == reason.asks_for}
    return tuple(one for one in asked if one == one.asks_for or one.asks_for not in plain)

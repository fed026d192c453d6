# SPDX-License-Identifier: GPL-2.0-or-later
"""What could not be established: a sentence for people, and an id for everything else."""

from __future__ import annotations

from typing import Self

__all__ = ["Unknown"]


class Unknown(str):
    """A sentence that says what is missing and how to get it.

    Attributes:
        id: Of its explanation, e.g. ``unknown-syscfg``.
    """

    id: str

    def __new__(cls, text: str, id: str = "") -> Self:  # noqa: A002 - its name in every document
        """A sentence with an id; a pickle sets the id afterwards."""
        self = super().__new__(cls, text)
        self.id = id
        return self

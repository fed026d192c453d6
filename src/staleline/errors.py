# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors that reach the user: what was wrong, where, and what to do.

Every module raises a subclass of `StalelineError`; only the command line turns one
into an exit status (1) and a single line on standard error.
"""

from __future__ import annotations

from os import PathLike

__all__ = [
    "EvidenceError",
    "KernelImageError",
    "ModelError",
    "PolicyError",
    "StalelineError",
    "UsageError",
]


class StalelineError(Exception):
    """Something in the input stops the work; never a verdict.

    Args:
        what: What was wrong, without a trailing full stop.
        where: File, and offset, line or field where known, e.g. ``"vmlinuz+0x24c"``.
        do: What the user can do about it, as an imperative.
    """

    def __init__(
        self, what: str, *, where: str | PathLike[str] | None = None, do: str | None = None
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.do = do
        super().__init__(str(self))

    def __str__(self) -> str:
        """One line: ``where: what; do``."""
        located = self.what if self.where is None else f"{self.where}: {self.what}"
        text = located if self.do is None else f"{located}; {self.do}"
        return " ".join(text.split())


class UsageError(StalelineError):
    """The command was asked for something that does not exist or does not fit together."""


class EvidenceError(StalelineError):
    """A dump, snapshot or /proc file that cannot be read as what it claims to be."""


class KernelImageError(StalelineError):
    """A file that is not a kernel image this tool can read."""


class PolicyError(StalelineError):
    """A policy file or expression that is not well formed."""


class ModelError(StalelineError):
    """A scenario the model does not cover, or a bound that was hit."""

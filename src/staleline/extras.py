# SPDX-License-Identifier: GPL-2.0-or-later
"""What an installation may lack: libraries that only some questions need.

Collecting, telling facts and judging a machine by a rule that is known need little, and run on
hosts where little may be installed. Whoever reads images or proves policies installs an extra,
and whoever did not is told which one.
"""

from __future__ import annotations

from dataclasses import dataclass

from staleline.errors import StalelineError

__all__ = ["EXTRAS", "Extra", "MissingExtraError", "missing_extra"]


@dataclass(frozen=True, slots=True)
class Extra:
    """A group of optional libraries, as pyproject.toml has it.

    Attributes:
        name: What stands between the brackets of ``staleline[name]``.
        purpose: What cannot be done without it.
    """

    name: str
    purpose: str


_IMAGES = Extra("images", "reading a kernel image")
_PROVE = Extra("prove", "proving for any number of CPUs")

#: Top-level module -> the extra that brings it. numpy is in both, and images ask for it first.
EXTRAS = {
    "capstone": _IMAGES,
    "lz4": _IMAGES,
    "lzallright": _IMAGES,
    "numpy": _IMAGES,
    "unicorn": _IMAGES,
    "oxidd": _PROVE,
    "z3": _PROVE,
}

#: Needed by every installation but the single file, which can carry no compiled code.
_COMPILED = {"zstandard": "unpacking zstd"}


class MissingExtraError(StalelineError):
    """A library that this question needs is not installed."""


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error to show where a library of an extra is missing; None for any other module."""
    module = (error.name or "").partition(".")[0]
    if module in _COMPILED:
        return MissingExtraError(
            f"{_COMPILED[module]} needs the Python module {module}, which is not here",
            do=f"install {module}, or unpack the file first",
        )
    if module not in EXTRAS:
        return None
    extra = EXTRAS[module]
    return MissingExtraError(
        f"{extra.purpose} needs the Python module {module}, which this installation leaves out",
        do=f"install staleline[{extra.name}], or staleline[all]",
    )

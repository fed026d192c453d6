# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel module that asks, with its tests and what builds and runs it: installed as it is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from staleline.errors import UsageError
from staleline.outputfile import replace_file

__all__ = ["kit_files", "standard_tests", "write_kit"]

_TESTS = "tests.litmus"


@cache
def kit_files() -> Mapping[str, str]:
    """Every file of the kit, name -> text."""
    folder = files(__package__) / "module"
    return {
        entry.name: entry.read_text("utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.is_file()
    }


def standard_tests() -> str:
    """The tests that are not of a counterexample."""
    return kit_files()[_TESTS]


def write_kit(directory: str) -> tuple[Path, ...]:
    """Write the kit into a directory of its own, which is made.

    Raises:
        UsageError: There is something already, or it cannot be written.
    """
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Nothing of somebody else's is written over, nor built with the module.
        occupied = any(folder.iterdir())
    except OSError as error:
        raise UsageError(
            f"cannot be made: {error.strerror}", where=directory, do="name another directory"
        ) from error
    if occupied:
        raise UsageError("is not empty", where=directory, do="name a directory that is not there")
    for name, text in kit_files().items():
        replace_file(folder / name, text)
    return tuple(folder / name for name in kit_files())

# SPDX-License-Identifier: GPL-2.0-or-later
"""Counterexamples that a command writes beside its report, as ITF."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from staleline.outputfile import writing

if TYPE_CHECKING:
    from staleline.check.runs.trace import Counterexample

__all__ = ["write_traces"]


def write_traces(directory: Path, named: Iterable[tuple[str, Counterexample]]) -> dict[str, str]:
    """Write each under its name; returns name -> path.

    Raises:
        UsageError: One cannot be written.
    """
    from staleline.check.runs.itf import itf_document

    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    written: dict[str, str] = {}
    for name, counterexample in named:
        path = directory / name
        with writing(path):
            path.write_text(json.dumps(itf_document(counterexample), indent=1), "utf-8")
        written[name] = str(path)
    return written

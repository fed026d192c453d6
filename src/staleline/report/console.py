# SPDX-License-Identifier: GPL-2.0-or-later
"""Terminal output: one console for text and one way to print a JSON document."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

from rich.console import Console

__all__ = ["VERDICT_STYLE", "print_json", "text_console"]

VERDICT_STYLE = {"safe": "bold green", "at-risk": "bold red", "unknown": "bold yellow"}

_PIPE_WIDTH = 100


def text_console() -> Console:
    """A console on standard output: colour only on a terminal and without NO_COLOR."""
    width = None if sys.stdout.isatty() else _width_of_pipe()
    return Console(file=sys.stdout, highlight=False, width=width, emoji=False, markup=True)


def _width_of_pipe() -> int:
    return max(_PIPE_WIDTH, shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns)


def print_json(document: dict[str, Any]) -> None:
    """The document as indented JSON on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")

# SPDX-License-Identifier: GPL-2.0-or-later
"""Terminal output: one console for text and one way to print a JSON document."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any, TextIO

from rich.console import Console

__all__ = ["VERDICT_STYLE", "json_text", "print_json", "text_console"]

VERDICT_STYLE = {"safe": "bold green", "at-risk": "bold red", "unknown": "bold yellow"}

_PIPE_WIDTH = 100


def text_console(file: TextIO | None = None) -> Console:
    """A console, by default standard output: colour only on a terminal and without NO_COLOR."""
    stream = file or sys.stdout
    width = None if stream.isatty() else _width_of_pipe()
    return Console(file=stream, highlight=False, width=width, emoji=False, markup=True)


def _width_of_pipe() -> int:
    return max(_PIPE_WIDTH, shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns)


def print_json(document: dict[str, Any]) -> None:
    """The document as indented JSON on standard output."""
    sys.stdout.write(json_text(document))


def json_text(document: dict[str, Any]) -> str:
    """The document as indented JSON, with a line end."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

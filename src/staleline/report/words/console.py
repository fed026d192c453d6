# SPDX-License-Identifier: GPL-2.0-or-later
"""Terminal output: one console for text and one way to print a JSON document.

Nothing reaches the terminal but printable text and what rich itself writes.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable
from typing import Any, TextIO

import rich.markup
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from staleline.pattern import Pattern
from staleline.printable import printable, printable_lines

__all__ = ["VERDICT_STYLE", "json_text", "markup_escape", "print_json", "text_console"]

VERDICT_STYLE = {"safe": "bold green", "at-risk": "bold red", "unknown": "bold yellow"}

_PIPE_WIDTH = 100


#: A surrogate in JSON that is none of a pair, which other readers refuse.
_LONE = Pattern(r"\\\\|\\ud[89ab]..\\ud[c-f]..|\\u(d[89a-f]..)")


def markup_escape(text: str) -> str:
    """Somebody else's text inside console markup: on one line, and meaning itself."""
    return rich.markup.escape(printable(text))


class _Console(Console):
    """Shows as numbers what is not printable, wherever in a renderable it stands."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Each passes here once for every renderable that it is in.
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                yield segment._replace(text=printable_lines(segment.text))


def text_console(file: TextIO | None = None) -> Console:
    """A console, by default standard output: colour only on a terminal and without NO_COLOR."""
    stream = file or sys.stdout
    width = None if stream.isatty() else _width_of_pipe()
    return _Console(file=stream, highlight=False, width=width, emoji=False, markup=True)


def _width_of_pipe() -> int:
    return max(_PIPE_WIDTH, shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns)


def print_json(document: dict[str, Any]) -> None:
    """The document as indented JSON on standard output."""
    sys.stdout.write(json_text(document))


def json_text(document: dict[str, Any]) -> str:
    """The document as indented JSON in ASCII, with a line end."""
    return _LONE.sub(_as_bytes, json.dumps(document, indent=2)) + "\n"


def _as_bytes(found: re.Match[str]) -> str:
    r"""A byte of a file's name that is not UTF-8 (PEP 383) as the text ``\xff``."""
    code = found[1]
    return found[0] if code is None else f"\\\\x{int(code, 16) & 0xFF:02x}"

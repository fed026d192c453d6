# SPDX-License-Identifier: GPL-2.0-or-later
"""Terminal output: one console for text and one way to print a JSON document.

Nothing reaches the terminal but printable text and what rich itself writes, and no line ends in
blanks.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import IO, Any, TextIO, cast

import rich.markup
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from staleline.pattern import Pattern
from staleline.printable import printable, printable_lines
from staleline.report.words.jsontext import json_text

__all__ = [
    "VERDICT_STYLE",
    "kept_whole",
    "markup_escape",
    "print_json",
    "text_console",
]

VERDICT_STYLE = {"safe": "bold green", "at-risk": "bold red", "unknown": "bold yellow"}

_PIPE_WIDTH = 100
#: No report is laid out for less.
_LEAST_WIDTH = 60
#: A number of more is none of columns: a rule so long would fill memory.
_DIGITS = 5
#: Blanks, and escapes of colour among them, up to the end of a line.
_BEFORE_END = re.compile(r"(?: |\x1b\[[\d;]*m)+(?=\n)")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


#: Stands for a blank at which no line ends. Texts from elsewhere have none: it is not printable.
_KEPT = "\ue000"
#: What is to be pasted: a word in quotation marks, or between backquotes.
_PASTED = Pattern(r'"[^"]*"|`[^`]*`')


def kept_whole(text: str) -> str:
    """Text for a console, with everything in it that can be pasted on one line where it fits.

    A line end within quotation marks would be pasted too: `"$(rdmsr -a -c` and the register's
    number on the next line are two commands.
    """
    return _PASTED.sub(_kept, printable(text))


def _kept(found: re.Match[str]) -> str:
    return found[0].replace(" ", _KEPT) if len(found[0]) < _LEAST_WIDTH - 4 else found[0]


def markup_escape(text: str) -> str:
    """Somebody else's text inside console markup: on one line, and meaning itself."""
    return rich.markup.escape(printable(text))


class _Trimmed:
    """A stream without blanks at the ends of lines, whatever padding a table has."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it, which has whole lines."""
        return self._stream.write(_BEFORE_END.sub(_without_blanks, text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _without_blanks(found: re.Match[str]) -> str:
    return "".join(_COLOUR.findall(found[0]))


class _Console(Console):
    """Shows as numbers what is not printable, wherever in a renderable it stands."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # Each passes here once for every renderable that it is in.
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            elif _KEPT in segment.text:
                # Only now, as it is a part of a line.
                yield segment._replace(text=printable_lines(segment.text.replace(_KEPT, " ")))
            else:
                yield segment._replace(text=printable_lines(segment.text))


def text_console(file: TextIO | None = None) -> Console:
    """A console, by default standard output: colour only on a terminal and without NO_COLOR.

    Args:
        file: Where to instead.
    """
    stream = file or sys.stdout
    # Asked, rich takes the width of any terminal that it finds: a pipe's output is the same
    # everywhere.
    width = None if stream.isatty() else _width_of_pipe()
    trimmed = cast("IO[str]", _Trimmed(stream))
    # Without emoji and highlighting: ":name:" in evidence is no picture, and its numbers are no
    # news.
    console = _Console(file=trimmed, highlight=False, width=width, emoji=False, markup=True)
    # A terminal that is narrower breaks the lines itself, and shows all of them.
    console.width = max(_LEAST_WIDTH, console.width)
    return console


def _width_of_pipe() -> int:
    """As COLUMNS says; what is no number of columns says nothing."""
    columns = os.environ.get("COLUMNS", "")
    given = int(columns) if columns.isdecimal() and len(columns) <= _DIGITS else 0
    return max(_LEAST_WIDTH, given) if given else _PIPE_WIDTH


def print_json(document: dict[str, Any]) -> None:
    """The document as indented JSON on standard output."""
    sys.stdout.write(json_text(document))

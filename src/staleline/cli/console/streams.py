# SPDX-License-Identifier: GPL-2.0-or-later
"""Standard output and error: whatever they are, no traceback and no half-told success."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO, cast

from staleline.outputfile import STANDARD_OUTPUT, writing
from staleline.printable import printable

__all__ = ["complain", "drop_output", "flush", "prepare_streams"]


def prepare_streams() -> None:
    """Make sure that all three are open, and take any text.

    A file that is opened while one of them is closed would get its number, and be written to.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if not _is_open(number):
            # What is written to standard output then fails, as it should: nobody reads it.
            os.open(os.devnull, flags)
    # Python has None for each that was closed when it began.
    sys.stdin = sys.stdin or _text(0, "r")
    sys.stdout = sys.stdout or _text(1, "w")
    sys.stderr = sys.stderr or _text(2, "w")
    for stream in (sys.stdout, sys.stderr):
        # A locale without the characters of a report still gets the report.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Write what is left, while an error of it can still be told.

    Raises:
        UsageError: Standard output cannot take it.
    """
    with writing(STANDARD_OUTPUT):
        sys.stdout.flush()


def drop_output() -> None:
    """Let what is left of the output go nowhere, or the interpreter complains at its end."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        sys.stdout.flush()


def complain(what: object) -> None:
    """What is wrong, as one line on standard error, if that can take it."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"staleline: {printable(' '.join(str(what).split()))}\n")
        sys.stderr.flush()


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _text(number: int, mode: str) -> TextIO:
    return cast("TextIO", open(number, mode, encoding="utf-8", closefd=False))

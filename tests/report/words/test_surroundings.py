# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables of the environment that say nothing usable say nothing, and nor do few columns."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from staleline.report.words.console import text_console
from staleline.report.words.dates import today
from tests.findings import ROOT


@pytest.mark.parametrize("epoch", ["", "soon", "-1", "9" * 13, "9" * 5000])
def test_an_epoch_that_is_none_leaves_today(monkeypatch, epoch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    before, told = datetime.datetime.now(datetime.UTC).date(), today()
    assert before.isoformat() <= told <= datetime.datetime.now(datetime.UTC).date().isoformat()


def test_an_epoch_is_the_day(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert today() == "1970-01-02"


@pytest.mark.parametrize(
    ("columns", "width"),
    [("", 100), ("0", 100), ("wide", 100), ("7", 60), ("132", 132), ("9" * 9, 100)],
)
def test_columns_that_are_none_leave_the_width_of_a_pipe(monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    assert text_console(io.StringIO()).width == width


@pytest.mark.parametrize("columns", [1, 20, 30, 59])
def test_a_terminal_of_few_columns_gets_all_that_a_wider_one_gets(columns: int) -> None:
    # At 30 the widths of a table's columns came to nothing, and below that to less.
    dump = ROOT / "tests/data/cpuid/libcpuid/amd-epyc-7742-64-core-processor-dual.test"
    assert _on_terminal(columns, "facts", str(dump)) == _on_terminal(60, "facts", str(dump))


def _on_terminal(columns: int, *arguments: str) -> str:
    """What a command writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    kept = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
    words = [sys.executable, "-m", "staleline", *arguments]
    process = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env=kept | {"TERM": "xterm"}
    )
    os.close(theirs)
    written = b""
    with os.fdopen(ours, "rb", buffering=0) as stream, contextlib.suppress(OSError):
        # EIO is a terminal's end of file.
        while part := stream.read(65536):
            written += part
    assert process.wait() == 0, written
    return written.decode()

# SPDX-License-Identifier: GPL-2.0-or-later
"""No table of a report elides a word, and none is made past the one that does not."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

import staleline
from staleline.report.words.console import text_console
from staleline.report.words.tables import Table

PACKAGE = Path(staleline.__file__).parent
WORD = "foreign-page-under-image-of-the-next-kernel"


@pytest.mark.parametrize("headed", [True, False])
def test_a_word_without_room_goes_on_below(monkeypatch: pytest.MonkeyPatch, headed: bool) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    table = Table(*("one", "two") if headed else (), box=None, show_header=headed)
    table.add_row(WORD, WORD)
    out = StringIO()
    text_console(out).print(table)
    assert "…" not in out.getvalue()
    rows = [line.split() for line in out.getvalue().splitlines()[headed:]]
    assert ["".join(cells) for cells in zip(*rows, strict=True)] == [WORD, WORD]


def test_no_report_uses_another_table() -> None:
    past = [
        file.relative_to(PACKAGE)
        for file in PACKAGE.rglob("*.py")
        if "from rich.table import" in file.read_text("utf-8")
    ]
    assert past == []

# SPDX-License-Identifier: GPL-2.0-or-later
"""Variables of the environment that say nothing usable say nothing."""

from __future__ import annotations

import datetime
import io

import pytest

from staleline.report.words.console import text_console
from staleline.report.words.dates import today


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

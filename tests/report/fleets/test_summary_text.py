# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet's summary as text: what it names, and what it says that it leaves out."""

from __future__ import annotations

from io import StringIO

import pytest

from staleline.fleet.changes import Changes, VerdictChange
from staleline.report.fleets.summary_text import print_changes
from staleline.report.words.console import text_console


@pytest.mark.parametrize(
    ("hosts", "shown"),
    [
        (1, "(a)"),
        (3, "(a, b, c)"),
        (4, "(a, b, c…)"),
        (90, "(a, b, c…)"),
    ],
)
def test_hosts_that_are_left_out_are_said_to_be(hosts: int, shown: str) -> None:
    examples = tuple("abcde"[:hosts])
    by = ("reboot_force: no, now yes",)
    change = VerdictChange(None, "safe", "at-risk", by, hosts, examples)
    out = StringIO()
    print_changes(text_console(out), Changes(hosts, hosts, 0, (change,)))
    assert out.getvalue().splitlines()[-1].endswith(shown)

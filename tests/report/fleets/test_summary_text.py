# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet's summary as text: what it names, and what it says that it leaves out."""

from __future__ import annotations

from io import StringIO

import pytest

from staleline.fleet.changes import Changes, VerdictChange
from staleline.report.fleets.summary_text import print_changes, print_pairs
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


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("hosts", [9_000, 1_000_000, 100_000_000])
def test_of_a_large_fleet_no_figure_and_no_name_is_cut(
    monkeypatch: pytest.MonkeyPatch, width: int, hosts: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    row = {"release": "6.12.117+deb13-cloud-amd64", "rule": "linux-6.11", "hosts": hosts}
    row |= dict.fromkeys(("at_risk", "unknown", "safe"), hosts)
    out = StringIO()
    print_pairs(text_console(out), {"any": [row]})
    text = out.getvalue()
    assert text.count(f"{hosts:,}") == 4
    # A name may go on below, but not letter by letter beside figures that take all the room.
    assert {"6.12.117+deb13-cloud-amd64", "linux-6.11"} <= set(text.split())
    assert all(len(line) <= width for line in text.splitlines())

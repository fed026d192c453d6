# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of handovers: what a search leaves of it, what paper has of it, and what is required."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Page, expect

from staleline.report.explorer.cases import ExploredKernels
from staleline.report.explorer.files import write_report
from staleline.vocabulary import Site
from tests.report.conftest import Opener
from tests.report.explorer.explored import fleet


@pytest.fixture(scope="module")
def machines_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More machines than are shown open, each at risk."""
    return write_report(fleet(8), tmp_path_factory.mktemp("machines"))


def counted(page: Page) -> str:
    return page.locator("#handovers output").inner_text()


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        ("at risk", "32 handovers"),
        ("AT-RISK", "32 handovers"),
        ("on->off", "16 of 32 handovers shown"),
        ("node003.example kexec at-risk", "2 of 32 handovers shown"),
    ],
)
def test_a_search_finds_what_people_type_and_says_how_much(
    open_page: Opener, machines_page: Path, typed: str, left: str
) -> None:
    """A verdict is `at-risk` in every other report, and a transition `on->off` on a keyboard."""
    page = open_page(machines_page)
    assert counted(page) == "32 handovers"
    page.get_by_role("searchbox").fill(typed)
    assert page.locator("details.machine:visible").count() > 0
    assert counted(page) == left


def test_what_a_search_and_a_filter_leave_is_counted_together(
    open_page: Opener, machines_page: Path
) -> None:
    page = open_page(machines_page)
    page.get_by_role("searchbox").fill("node003.example")
    assert counted(page) == "4 of 32 handovers shown"
    page.get_by_label("kernels differ").check()
    assert counted(page) == "2 of 32 handovers shown"
    page.get_by_role("searchbox").fill("no such machine")
    assert counted(page) == "0 of 32 handovers shown"


def test_paper_drops_no_machine_and_says_what_a_search_left_out(
    open_page: Opener, machines_page: Path
) -> None:
    page = open_page(machines_page)
    page.emulate_media(media="print")
    rows = page.locator("details.machine summary:visible")
    assert rows.count() == 8
    assert all("at risk" in row for row in rows.all_inner_texts())
    page.get_by_role("searchbox", include_hidden=True).evaluate(
        "node => { node.value = 'node003'; node.dispatchEvent(new Event('input')); }"
    )
    expect(page.locator("#handovers output")).to_be_visible()
    assert counted(page) == "4 of 32 handovers shown"


def with_results(explored: ExploredKernels, **changes: object) -> ExploredKernels:
    """Every finding changed alike."""
    return replace(
        explored,
        results={
            case: {
                kernel: replace(result, finding=replace(cast("Any", result.finding), **changes))
                for kernel, result in results.items()
            }
            for case, results in explored.results.items()
        },
    )


def flushes_shown(page: Page) -> set[tuple[str, str]]:
    """What stands beside flushes of the matrix, with its class."""
    cells = page.locator("table.matrix td[data-label]:not([data-case])").all()
    return {((one.get_attribute("class") or "").split()[0], one.inner_text()) for one in cells}


def test_a_requirement_that_depends_is_not_told_like_none(
    open_page: Opener, tmp_path: Path
) -> None:
    one = fleet(1)
    needed = dict.fromkeys(Site)
    depends = with_results(one, needed=needed, unneeded={}, faults=(), attainable=True)
    page = open_page(write_report(depends, tmp_path / "report"))
    shown = flushes_shown(page)
    assert {kind for kind, _ in shown} <= {"open", "flushes"}
    assert all("required: depends" in words for _, words in shown)
    assert "required: depends" in page.locator(".layers").inner_text()


def test_where_no_flush_helps_none_is_required(open_page: Opener, tmp_path: Path) -> None:
    """Of no safe choice every site would be part: vacuously, and the text report says so too."""
    needed = dict.fromkeys(Site, True)
    helpless = with_results(fleet(1), needed=needed, unneeded={}, faults=(), attainable=False)
    page = open_page(write_report(helpless, tmp_path / "report"))
    assert not any("required" in words for _, words in flushes_shown(page))
    assert page.locator("td[data-case]", has_text="no flush helps").count() > 0


def test_what_was_given_and_not_observed_is_told_at_the_top(
    open_page: Opener, machines_page: Path
) -> None:
    head = open_page(machines_page).get_by_role("banner").inner_text()
    assert "node003.example: given by you, not observed: msr 0xc0010010, kernel.cmdline" in head


@pytest.mark.parametrize("width", [1280, 1040, 820, 390])
def test_no_verdict_lies_beyond_the_edge_of_the_window(
    open_page: Opener, machines_page: Path, width: int
) -> None:
    page = open_page(machines_page, viewport={"width": width, "height": 900})
    cells = page.locator("table.matrix td[data-case]").all()
    assert len(cells) == 8
    for cell in cells:
        box = cell.bounding_box()
        assert box is not None
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width

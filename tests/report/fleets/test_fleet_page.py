# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet's page in Chromium: counts, filters, runs, screen readers, and silence."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from staleline.cli.main import main
from staleline.evidence.detect import parse_snapshot
from staleline.evidence.hosts.snapshot_json import snapshot_text
from tests.fleet.equality import fleet_of, some_hosts
from tests.report.conftest import Opener

PHONE = {"viewport": {"width": 390, "height": 844}}
HOSTILE = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    hosts = some_hosts(30, seed=5)
    hostile = replace(parse_snapshot(hosts["node0"], "a host"), host=HOSTILE)
    fleet = fleet_of({**hosts, "hostile": snapshot_text(hostile), "cut": "{"}, folder)
    assert main(["fleet", "page", str(fleet), "-o", str(folder / "fleet.html")]) == 0
    return folder / "fleet.html"


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 820, 390])
def test_nothing_is_wrong_at_any_width(open_page: Opener, page_file: Path, width, scheme):
    window = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    page = open_page(page_file, **window)
    expect(page.get_by_role("heading", level=1)).to_have_text("A fleet of 32 hosts")
    assert fits(page)
    assert violations(page) == []


def test_hosts_are_found_and_names_stay_text(open_page: Opener, page_file: Path):
    page = open_page(page_file)
    hosts = page.locator("#hosts")
    hosts.get_by_role("searchbox").fill("onerror")
    expect(hosts.locator("tbody tr")).to_have_count(1)
    assert HOSTILE in hosts.locator("tbody tr").inner_text()
    assert page.locator("img").count() == 0
    hosts.get_by_role("searchbox").fill("")
    hosts.get_by_role("combobox").select_option("at-risk")
    rows = hosts.locator("tbody tr")
    expect(rows.first).to_contain_text("at risk")
    shown = int(hosts.locator("output").inner_text().split()[0])
    counted = page.locator(".counts .at-risk strong").inner_text()
    assert shown == rows.count() == int(counted)


@pytest.mark.parametrize("script", [True, False])
def test_shares_are_as_wide_as_they_are_or_not_there(
    open_page: Opener, page_file: Path, script: bool
):
    page = open_page(page_file, java_script_enabled=script)
    parts = page.locator(".share span").all()
    boxes = [part.bounding_box() for part in parts]
    if not script:
        assert boxes == [None] * len(parts)
        return
    widths = [box["width"] for box in boxes if box]
    hosts = [int(one) for one in page.locator(".counts strong").all_inner_texts() if one != "0"]
    for width, count in zip(widths, hosts, strict=True):
        assert width / sum(widths) == pytest.approx(count / sum(hosts), abs=0.02)


def test_what_was_not_read_is_named(open_page: Opener, page_file: Path):
    page = open_page(page_file)
    expect(page.locator("#faults tbody tr")).to_have_count(1)
    expect(page.locator("#faults")).to_contain_text("cut.json")


@pytest.mark.parametrize("window", [{}, PHONE])
def test_a_class_at_risk_has_a_run_to_step_through(open_page: Opener, page_file: Path, window):
    page = open_page(page_file, **window)
    page.locator("#classes .fleet-button").first.click()
    title = page.locator("#run-title")
    expect(title).to_be_focused()
    position = page.locator(".position")
    assert position.inner_text().startswith("0 / ")
    page.keyboard.press("End")
    last = position.inner_text()
    assert last.split(" / ")[0] == last.split(" / ")[1]
    expect(page.locator(".outcome")).to_contain_text("is broken")
    assert fits(page)
    assert violations(page) == []


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More hosts than a table shows at once."""
    folder = tmp_path_factory.mktemp("large")
    fleet = fleet_of(some_hosts(120, seed=7), folder)
    assert main(["fleet", "page", str(fleet), "-o", str(folder / "fleet.html")]) == 0
    assert main(["fleet", "audit", str(fleet), "-o", str(folder / "rows.csv")]) == 2
    return folder / "fleet.html"


def audited(page_file: Path) -> dict[str, dict[str, str]]:
    """The rows of `fleet audit`, by host."""
    with (page_file.parent / "rows.csv").open(newline="") as file:
        return {row["host"]: row for row in csv.DictReader(file)}


def all_rows(page: Page) -> list[dict[str, str]]:
    """Every host's row, by its columns."""
    hosts = page.locator("#hosts")
    while hosts.get_by_role("button", name="Show more").is_visible():
        hosts.get_by_role("button", name="Show more").click()
    rows: list[dict[str, str]] = hosts.locator("tbody").evaluate(
        "body => [...body.rows].map((row) => Object.fromEntries("
        "[...row.cells].map((cell) => [cell.dataset.label, cell.textContent])))"
    )
    return rows


def test_a_host_s_row_has_all_that_its_audit_names(open_page: Opener, large_file: Path):
    rows = {row["host"]: row for row in all_rows(open_page(large_file))}
    wanted = audited(large_file)
    assert rows.keys() == wanted.keys()
    assert any(len(row["missing"]) > 200 for row in wanted.values())
    assert any(row["faults"] for row in wanted.values())
    for host, row in wanted.items():
        shown = rows[host]
        assert shown["verdict"].replace(" ", "-") == row["verdict"]
        named = ",".join(row[name] for name in ("broken", "missing", "faults") if row[name])
        words = re.split(r"[,;] ", re.sub(r"missing: |WBINVD traps: ", "", shown[_FOUND]))
        assert words == (named.split(",") if named else [""]), host
        assert ("weaker evidence" in shown["kernel and rule"]) is (
            row["kernel_evidence"] == "release"
        ), host


_FOUND = "breaks, or is missing"


def test_hosts_are_found_by_what_breaks(open_page: Opener, large_file: Path):
    page = open_page(large_file)
    page.locator("#hosts").get_by_role("searchbox").fill("kexec:P1")
    wanted = sum("kexec:P1" in row["broken"] for row in audited(large_file).values())
    expect(page.locator("#hosts output")).to_have_text(f"{wanted} hosts of 120 hosts")


def test_paper_says_how_many_rows_it_does_not_show(open_page: Opener, large_file: Path):
    page = open_page(large_file)
    page.emulate_media(media="print")
    expect(page.locator("#hosts .more")).to_contain_text("100 of 120 rows are shown.")
    expect(page.locator("#hosts .more button")).to_be_hidden()
    expect(page.locator("#hosts output")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 1040, 820, 390])
def test_no_word_of_a_cell_is_torn(open_page: Opener, large_file: Path, width: int):
    """Where words of names of hosts, CPUs and what is missing are as they are."""
    page = open_page(large_file, viewport={"width": width, "height": 900})
    assert page.evaluate(_TORN) == []


#: Words of letters that stand on two lines.
_TORN = """() => {
  const torn = [];
  const range = document.createRange();
  for (const cell of document.querySelectorAll("#hosts td")) {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      for (const found of walker.currentNode.data.matchAll(/[A-Za-z]+/g)) {
        range.setStart(walker.currentNode, found.index);
        range.setEnd(walker.currentNode, found.index + found[0].length);
        const tops = [...range.getClientRects()].map((box) => box.top);
        if (new Set(tops).size > 1) torn.push(found[0]);
      }
    }
  }
  return torn;
}"""


#: In every name that a host may tell: markup, an escape sequence, text turned round, and 5,000
#: letters without a place to break.
_NAMES = (HOSTILE, "\x1b[31mred", "\u202eknil", "x" * 5000)


@pytest.mark.parametrize("width", [1280, 820, 390])
def test_no_name_makes_the_page_wider_or_turns_it_round(
    open_page: Opener, tmp_path: Path, width: int
):
    hosts = some_hosts(4, seed=5)
    observed = parse_snapshot(hosts["node0"], "a host")
    named = {
        f"named{number}": snapshot_text(
            replace(observed, host=name, kernel=replace(observed.kernel, release=name))
        )
        for number, name in enumerate(_NAMES)
    }
    fleet = fleet_of({**hosts, **named}, tmp_path)
    assert main(["fleet", "page", str(fleet), "-o", str(tmp_path / "fleet.html")]) == 0
    page = open_page(tmp_path / "fleet.html", viewport={"width": width, "height": 900})
    assert fits(page)
    assert page.locator("img").count() == 0
    text = (tmp_path / "fleet.html").read_text()
    assert all(c.isprintable() or c == "\n" for c in text)

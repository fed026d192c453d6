# SPDX-License-Identifier: GPL-2.0-or-later
"""A fleet's page in Chromium: counts, filters, runs, screen readers, and silence."""

from __future__ import annotations

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

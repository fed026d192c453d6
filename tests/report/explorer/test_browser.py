# SPDX-License-Identifier: GPL-2.0-or-later
"""The explorer in Chromium: stepping, addresses, keyboard, screen readers, paper, speed."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from staleline.report.explorer.files import write_report
from tests.report.conftest import Opener
from tests.report.explorer.explored import HYGON_CASE, RACE_CASE, fleet, hygon, race

PHONE = {"viewport": {"width": 360, "height": 780}}


@pytest.fixture(scope="module")
def hygon_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(hygon(), tmp_path_factory.mktemp("hygon"))


@pytest.fixture(scope="module")
def race_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(race(), tmp_path_factory.mktemp("race"))


def position(page: Page) -> str:
    return page.locator(".position").inner_text()


def words(page: Page, pane: str, part: str) -> str:
    text = page.get_by_role("region", name=pane).locator(part).inner_text()
    return re.sub(r"\s+", " ", text).strip()


def test_hygon_loses_the_image_where_the_proposal_keeps_it(
    open_page: Opener, hygon_page: Path
) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}/9")
    assert position(page) == "9 / 9"
    assert "it destroys what the next kernel wrote there" in words(page, "linux-6.18", ".story")
    assert "destroyed" in words(page, "linux-6.18", ".memory")
    assert words(page, "host-mem-incoherent", ".story") == (
        "Not possible here: the C-bit entry of secondary 1 is “absent”, not “dirty, old”."
    )
    assert words(page, "host-mem-incoherent", ".memory").endswith("line role: image next")
    assert "Proved for any number of CPUs" in words(page, "host-mem-incoherent", ".outcome")


def test_the_old_kernels_entry_is_shown_stale_once_the_next_kernel_has_written(
    open_page: Opener, hygon_page: Path
) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}/6")
    entry = page.get_by_role("region", name="linux-6.18").locator(".entry.cbit").last
    assert "dirty, old" in entry.inner_text()
    page.keyboard.press("ArrowRight")
    assert "dirty, stale" in entry.inner_text()


def test_before_6_5_the_jumping_cpu_goes_on_and_since_then_it_waits(
    open_page: Opener, race_page: Path
) -> None:
    page = open_page(race_page, f"#{RACE_CASE}/4")
    assert "Secondary 1 still has its flush ahead of it" in words(page, "linux-4.15", ".story")
    assert words(page, "linux-4.15", ".outcome").startswith("P2 is broken")
    assert words(page, "linux-6.5", ".story") == (
        "Not possible here: secondary 1 is at “stopping”, not at “reported stopped”."
    )


def test_the_layer_of_the_kernel_tells_when_secondaries_are_reported(
    open_page: Opener, race_page: Path
) -> None:
    does = open_page(race_page, f"#{RACE_CASE}").locator(".layer", has_text="Kernel does")
    told = re.sub(r"\s+", " ", does.inner_text())
    assert re.search(r"linux-4.15 .* reported stopped before their WBINVD .* linux-6.5 ", told)
    assert told.count("reported stopped after their WBINVD") == 1


def test_each_step_names_function_and_source(open_page: Opener, race_page: Path) -> None:
    page = open_page(race_page, f"#{RACE_CASE}/3")
    anchor = words(page, "linux-4.15", ".anchor")
    assert anchor == "stop_this_cpu before commit 1f5e7eb7868e (v6.5)"


def test_the_keyboard_steps_plays_and_goes_to_the_ends(open_page: Opener, hygon_page: Path) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}/3")
    for key, expected in (
        ("ArrowRight", "4 / 9"),
        ("ArrowLeft", "3 / 9"),
        ("End", "9 / 9"),
        ("ArrowRight", "9 / 9"),
        ("Home", "0 / 9"),
        ("ArrowLeft", "0 / 9"),
    ):
        page.keyboard.press(key)
        assert position(page) == expected, key
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(page.locator(".position")).to_have_text("1 / 9", timeout=10_000)
    page.keyboard.press(" ")
    expect(page.get_by_role("button", name="Play")).to_be_visible()


def test_every_step_has_an_address_that_leads_back_to_it(
    open_page: Opener, hygon_page: Path
) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}/5")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(f"#{HYGON_CASE}/6/1-2$"))
    again = open_page(page.url)
    assert position(again) == "6 / 9"
    assert again.locator("#handover-title").inner_text() == "kexec on→off on hygon-sme-incoherent"


_ADDRESSES_OF_500_KEYS = """() => {
  let changes = 0;
  const replace = history.replaceState.bind(history);
  history.replaceState = (...state) => { changes += 1; replace(...state); };
  for (let times = 0; times < 500; times += 1) {
    const key = times % 2 ? "ArrowLeft" : "ArrowRight";
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  }
  return new Promise((done) => setTimeout(() => done(changes), 1000));
}"""


def test_the_address_waits_for_who_steps_fast(open_page: Opener, hygon_page: Path) -> None:
    # Browsers drop changes beyond some 200 in ten seconds, to be protected from floods.
    page = open_page(hygon_page, f"#{HYGON_CASE}/0")
    assert page.evaluate(_ADDRESSES_OF_500_KEYS) == 1
    assert page.url.endswith(f"#{HYGON_CASE}/0/1-2")


@pytest.mark.parametrize("address", ["#nothing/3", "#/", "#%", f"#{HYGON_CASE}/x/y-z", "#<b>"])
def test_an_address_of_nothing_shows_a_handover_all_the_same(
    open_page: Opener, hygon_page: Path, address: str
) -> None:
    assert position(open_page(hygon_page, address)).startswith("0 / ")


def test_the_matrix_tells_executed_required_and_unneeded_apart(
    open_page: Opener, hygon_page: Path
) -> None:
    page = open_page(hygon_page)
    rows = page.locator("tbody", has=page.get_by_role("rowheader", name="on→off", exact=True))
    told = [re.sub(r"\s+", " ", row) for row in rows.locator("tr").all_inner_texts()]
    assert "no WBINVD required no WBINVD required at risk" in told[0]
    assert "P1 is broken" in told[0]
    assert "WBINVD required WBINVD required safe" in told[1]
    rows = page.locator("tbody", has=page.get_by_role("rowheader", name="on→on", exact=True))
    told = [re.sub(r"\s+", " ", row) for row in rows.locator("tr").all_inner_texts()]
    assert "no WBINVD required WBINVD unneeded at risk" in told[1]


def test_the_matrix_can_be_narrowed_to_where_the_kernels_differ(
    open_page: Opener, hygon_page: Path
) -> None:
    page = open_page(hygon_page)
    rows = page.locator("table.matrix tbody")
    assert rows.count() == 8
    page.get_by_label("kernels differ").check()
    assert rows.count() == 7
    assert page.get_by_role("rowheader", name="off→off", exact=True).count() == 0


def test_a_verdict_of_the_matrix_opens_its_handover(open_page: Opener, hygon_page: Path) -> None:
    page = open_page(hygon_page)
    page.get_by_role("link", name="at risk linux-6.18, crash off→on", exact=True).click()
    expect(page.locator("#handover-title")).to_contain_text("crash off→on")
    assert page.evaluate("document.activeElement.id") == "handover"


def test_a_safe_handover_says_why_instead_of_playing(open_page: Opener, hygon_page: Path) -> None:
    page = open_page(hygon_page, "#hygon-sme-incoherent.crash.off-off")
    expect(page.locator("#handover h3").last).to_have_text("No run breaks it")
    why = "Because neither kernel uses the C-bit"
    assert why in page.locator(".layers").inner_text()


def test_the_four_layers_stay_apart(open_page: Opener, hygon_page: Path) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}")
    titles = page.locator(".layer > h3").all_inner_texts()
    assert titles == ["Hardware can", "Firmware enabled", "Kernel does", "Verdict"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("window", [{}, PHONE], ids=["desktop", "phone"])
def test_axe_finds_no_fault(
    open_page: Opener, hygon_page: Path, scheme: str, window: Mapping[str, object]
) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}/8", color_scheme=scheme, **window)
    for details in page.locator("details").all():
        details.evaluate("node => { node.open = true; }")
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_steps_are_announced(open_page: Opener, hygon_page: Path) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}/1")
    page.keyboard.press("ArrowRight")
    expect(page.locator("[aria-live=polite]")).to_contain_text(
        "Step 2 of 9. linux-6.18: The jumping CPU asks all other CPUs to stop"
    )


def test_a_phone_needs_no_sideways_scrolling(open_page: Opener, hygon_page: Path) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}/8", **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_paper_shows_every_step_and_no_control(open_page: Opener, hygon_page: Path) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}/2")
    page.emulate_media(media="print")
    assert page.locator(".steps tbody tr:visible").count() == 9
    assert page.locator(".transport:visible, .panes:visible, select:visible").count() == 0


#: Pixels between the top of the window and the title of the run.
_RUN_IS_AT = "document.getElementById('run-title').getBoundingClientRect().top"


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
@pytest.mark.parametrize("case", [f"{HYGON_CASE}/8", f"{HYGON_CASE}/8/2-1"])
def test_the_address_of_a_step_opens_the_page_at_the_run(
    open_page: Opener, hygon_page: Path, case: str, motion: str
) -> None:
    page = open_page(hygon_page, f"#{case}", reduced_motion=motion)
    assert page.evaluate("window.scrollY > window.innerHeight")
    assert -1 < page.evaluate(_RUN_IS_AT) < 20  # heights have fractions, scrolling may not


def test_the_heights_above_the_run_are_not_estimates(open_page: Opener, hygon_page: Path) -> None:
    """Firefox scrolls to where the run would be if tables that it skips were as low as told."""
    page = open_page(hygon_page, f"#{HYGON_CASE}/8")
    assert page.evaluate(
        "[...document.querySelectorAll('*')].every("
        "node => getComputedStyle(node).contentVisibility === 'visible')"
    )


def test_reduced_motion_is_respected(open_page: Opener, hygon_page: Path) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}/2", reduced_motion="reduce")
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter("
        "node => getComputedStyle(node).transitionDuration !== '0s').length"
    )
    assert moving == 0


#: Milliseconds from a key to the page laid out again, for every step there and back.
_STEP_TIMES = """() => {
  const press = (key) => {
    const begin = performance.now();
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    document.body.getBoundingClientRect();
    return performance.now() - begin;
  };
  const there = Array.from({ length: 9 }, () => press("ArrowRight"));
  return [...there, ...there.map(() => press("ArrowLeft"))];
}"""


def median_step(page: Page) -> float:
    """Milliseconds; the median, as a machine with other work makes single steps wait."""
    times: list[float] = page.evaluate(_STEP_TIMES)
    return statistics.median(times)


def test_a_step_takes_less_than_50_ms(open_page: Opener, hygon_page: Path) -> None:
    page = open_page(hygon_page, f"#{HYGON_CASE}/0")
    assert median_step(page) < 50
    assert position(page) == "0 / 9"


_FIRST_PAINT = """() => new Promise((done) => {
  const look = () => {
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    if (paint) done(paint.startTime);
    else requestAnimationFrame(look);
  };
  look();
})"""


def quickest_first_paint(open_page: Opener, path: Path, address: str = "") -> float:
    """Milliseconds from opening the file to the first text; of three, as with steps."""
    return min(float(open_page(path, address).evaluate(_FIRST_PAINT)) for _ in range(3))


def test_five_hundred_handovers_stay_quick(open_page: Opener, tmp_path: Path) -> None:
    explored = fleet(128)
    assert len(explored.results) == 512
    written = write_report(explored, tmp_path / "report")
    assert written.stat().st_size < 1_000_000
    address = "#node127.example.kexec.on-off/0"
    assert quickest_first_paint(open_page, written, address) < 1000
    page = open_page(written, address)
    assert median_step(page) < 50
    # Only the machine that is looked at has a table; others make theirs when opened. The
    # browser tells of the opening in a task of its own, after the click.
    tables = page.locator("table.matrix")
    assert tables.count() == 1
    page.locator("summary", has_text="node007.example").click()
    expect(tables).to_have_count(2)


def test_the_first_paint_takes_less_than_a_second(open_page: Opener, hygon_page: Path) -> None:
    assert quickest_first_paint(open_page, hygon_page) < 1000

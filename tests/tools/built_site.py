# SPDX-License-Identifier: GPL-2.0-or-later
"""`make site-test`: the built site in a browser, as wide as a desk's, a tablet's, a phone's."""

import pytest
from tools.chromium import chromium
from tools.site import SITE

PAGES = sorted(SITE.glob("*.html")) + sorted(SITE.glob("docs/**/*.html"))


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.mark.parametrize("width", [1280, 820, 390])
def test_no_page_is_wider_than_its_window_or_asks_another_host(browser, width):
    assert len(PAGES) > 25
    asked, wide = [], {}
    window = browser.new_page(viewport={"width": width, "height": 800})
    window.on("request", lambda request: asked.append(request.url))
    for page in PAGES:
        window.goto(page.as_uri())
        takes = window.evaluate("document.documentElement.scrollWidth")
        if takes > width:
            wide[page.name] = takes
    assert not wide
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]


def test_it_is_dark_where_the_reader_s_system_is(browser):
    window = browser.new_page(color_scheme="dark")
    window.goto((SITE / "index.html").as_uri())
    assert window.evaluate("document.body.dataset.mdColorScheme") == "slate"

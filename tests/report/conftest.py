# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Chromium, and pages of it that must stay silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tools.chromium import chromium

#: Opens a file or address in a window, and returns the page.
Opener = Callable[..., Page]


@pytest.fixture(scope="session", name="browser")
def _browser() -> Iterator[Browser]:
    """The browser, started once."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """Opens pages; whatever one says on the console, or asks the network for, fails the test."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def opened(where: Path | str, address: str = "", **window: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **window})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        url = where if isinstance(where, str) else where.as_uri()
        page.goto(url + address)
        allowed.add(page.url.split("#", maxsplit=1)[0])
        return page

    allowed: set[str] = set()
    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if url.split("#", maxsplit=1)[0] not in allowed | {"data:,"}] == []

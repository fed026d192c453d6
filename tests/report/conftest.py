# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Chromium, and pages of it that must stay silent."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_CHROMIUM = "chromium"
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")

#: Opens a file or address in a window, and returns the page.
Opener = Callable[..., Page]


def _installed_chromium() -> str:
    """Chromium's path; installs the Debian package where it is absent, which needs root."""
    found = shutil.which(_CHROMIUM)
    if found is None:
        apt = ["apt-get", "-q", "-y", "-oDPkg::Lock::Timeout=300"]
        for command in (["update"], ["install", "--no-install-recommends", _CHROMIUM]):
            subprocess.run(
                [*apt, *command],
                check=True,
                capture_output=True,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
        found = shutil.which(_CHROMIUM)
    assert found is not None, "as root: apt-get install chromium"
    return found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser, started once."""
    path = _installed_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Opener]:
    """Opens pages; whatever one says on the console, or asks the network for, fails the test."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def opened(where: Path | str, address: str = "", **window: object) -> Page:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **window})
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

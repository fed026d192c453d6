# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Chromium for tests and screenshots: Debian's package, driven by playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright
from tools.debian_package import installed

__all__ = ["chromium", "install_chromium"]

_CHROMIUM = "chromium"
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


def install_chromium() -> str:
    """Chromium's path; see `tools.debian_package.installed`."""
    return installed(_CHROMIUM, _CHROMIUM)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, for as long as the block runs."""
    path = install_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_OPTIONS))
        yield browser
        browser.close()

# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Chromium for tests and screenshots: Debian's package, driven by playwright."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

__all__ = ["chromium", "install_chromium"]

_CHROMIUM = "chromium"
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


def install_chromium() -> str:
    """Chromium's path; installs the Debian package where it is absent, which needs root.

    Raises:
        RuntimeError: It could not be installed.
    """
    found = shutil.which(_CHROMIUM)
    if found is not None:
        return found
    for command in (["update"], ["install", "--no-install-recommends", _CHROMIUM]):
        done = subprocess.run(  # noqa: S603
            # Another process may be installing it at the same time.
            ["apt-get", "-q", "-y", "-oDPkg::Lock::Timeout=300", *command],  # noqa: S607
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
    found = shutil.which(_CHROMIUM)
    if found is None:
        reason = done.stderr.strip()[-200:]
        raise RuntimeError(
            f"cannot install {_CHROMIUM}: {reason}; as root: apt-get install chromium"
        )
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, for as long as the block runs."""
    path = install_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_OPTIONS))
        yield browser
        browser.close()

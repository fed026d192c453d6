# SPDX-License-Identifier: GPL-2.0-or-later
"""Take the screenshots of the explorer in docs/screenshots: python -m tools.screenshots."""

from __future__ import annotations

import tempfile
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser
from tests.fleet.equality import fleet_of, some_hosts
from tools.chromium import chromium

from staleline.cli.main import main as staleline

_PLACE = Path(__file__).parents[1] / "docs" / "screenshots"

#: Report -> policies and platform class.
_REPORTS = {
    "hygon": ("linux-6.18", "host-mem-incoherent", "hygon-sme-incoherent"),
    "race": ("linux-4.15", "linux-6.5", "amd-sme-incoherent"),
}


@dataclass(frozen=True)
class _Shot:
    """One picture: its name, report, address, window and colours."""

    name: str
    report: str
    address: str
    width: int
    height: int
    scheme: Literal["light", "dark"]


#: Of a fleet drawn from the dumps of the tests.
_FLEET_HOSTS = 200

_SHOTS = (
    _Shot("overview", "hygon", "", 1280, 1000, "light"),
    _Shot("side-by-side", "hygon", "#hygon-sme-incoherent.kexec.on-off/8", 1280, 760, "light"),
    _Shot("race", "race", "#amd-sme-incoherent.kexec.on-on/4", 1280, 760, "dark"),
    _Shot("phone", "hygon", "#hygon-sme-incoherent.kexec.on-off/9", 360, 760, "dark"),
    _Shot("fleet", "fleet", "", 1280, 1000, "light"),
    _Shot("fleet-dark", "fleet", "", 820, 1000, "dark"),
    _Shot("fleet-phone", "fleet", "", 390, 844, "light"),
)


def main() -> None:
    """Write a report per case and take its pictures."""
    _PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, chromium() as browser:
        for name, (first, second, platform) in _REPORTS.items():
            where = Path(temporary) / name
            policies = ("--policy", first, "--policy", second)
            staleline(["report", "-o", str(where), *policies, "--platform", platform])
        _write_fleet(Path(temporary) / "fleet")
        for shot in _SHOTS:
            _take(browser, Path(temporary) / shot.report / "index.html", shot)


def _write_fleet(where: Path) -> None:
    where.mkdir()
    fleet = fleet_of(some_hosts(_FLEET_HOSTS, seed=1) | {"cut": "{"}, where)
    # The page names the directory in its commands, which is not to be that of one run.
    with chdir(where):
        staleline(["fleet", "page", fleet.name, "-o", "index.html"])


def _take(browser: Browser, page: Path, shot: _Shot) -> None:
    context = browser.new_context(
        viewport={"width": shot.width, "height": shot.height},
        color_scheme=shot.scheme,
        reduced_motion="reduce",
    )
    window = context.new_page()
    window.goto(page.as_uri() + shot.address)
    window.screenshot(path=_PLACE / f"{shot.name}.png")
    context.close()


if __name__ == "__main__":
    main()

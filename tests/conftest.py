# SPDX-License-Identifier: GPL-2.0-or-later
"""Real kernels as a fixture: ``real_kernel`` runs a test once for each series."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tools import fetch_kernels

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage
    from staleline.kernel.reading.running import RunningImage

# A defect that the command line would tell in one line shows in a test as what it is.
os.environ["STALELINE_TRACEBACK"] = "1"

# Deadlines measure the machine, not the code; in CI the same examples run every time.
settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tests")

_WANTED = tomllib.loads(fetch_kernels.WANTED.read_text())


@dataclass(frozen=True)
class RealKernel:
    """One image in the cache, and what its package says of it."""

    series: str
    release: str
    path: Path
    sha256: str

    @property
    def image(self) -> KernelImage:
        """It unpacked, once for all tests: nothing changes an image, mutants are copies."""
        return _image(self.path)

    @property
    def running(self) -> RunningImage:
        """It with what was decided for other tests' machines, and its doubts."""
        return _running(self.path)


# Imported when the first test asks, as most ask for none.
@cache
def _image(path: Path) -> KernelImage:
    from staleline.kernel.image.assembly import load_image  # noqa: PLC0415

    return load_image(path)


@cache
def _running(path: Path) -> RunningImage:
    from staleline.kernel.reading.running import RunningImage  # noqa: PLC0415

    return RunningImage(_image(path))


@pytest.fixture(autouse=True, scope="session")
def no_columns() -> Iterator[None]:
    """Reports are as wide as in any pipe, in every fixture too: runners of tests set COLUMNS."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        yield


@pytest.fixture(scope="session")
def real_kernels() -> dict[str, RealKernel]:
    """The required images by series, fetched if this is the first run."""
    cache = fetch_kernels.default_cache()
    required = [e for e in fetch_kernels.entries(_WANTED) if not e.get("optional")]
    images, missing = fetch_kernels.fetch(cache, required, _WANTED, None, refresh=False)
    if missing:
        pytest.fail("\n".join(missing))
    images += fetch_kernels.read_index(cache).values()
    return {
        image.series: RealKernel(image.series, image.release, cache / image.file, image.sha256)
        for image in images
    }


def _series() -> list[str]:
    """Required ones, and the optional ones that ``fetch_kernels.py --all`` brought."""
    cached = fetch_kernels.read_index(fetch_kernels.default_cache())
    return [
        entry["version"]
        for entry in _WANTED["series"]
        if not entry.get("optional") or entry["version"] in cached
    ]


@pytest.fixture(scope="module", params=_series())
def real_kernel(request: pytest.FixtureRequest, real_kernels: dict[str, RealKernel]) -> RealKernel:
    """One real kernel."""
    return real_kernels[request.param]

# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image does is in its source: other compilers and options must not change what is read.

gcc's build is the one that `built_tdx_host` and the formulas of each series vouch for. Not run
by default, as the kernels take minutes to build: ``tools/build_kernels.py`` with their names.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from staleline.kernel.boot.decision import SiteDecision
from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.dependencies import dependencies
from staleline.kernel.inventory.inventory import wbinvd_inventory
from staleline.kernel.inventory.roles import FlushRole, Phase
from staleline.kernel.rule.enumeration import lacking
from staleline.kernel.rule.imagepolicy import ImagePolicy, image_policy
from staleline.kernel.rule.truthrows import TruthRow, TruthTable
from staleline.kernel.rule.truthtable import truth_table
from tools import fetch_kernels

BUILT = fetch_kernels.default_cache() / "built"
#: Another build of a source -> gcc's.
SAME_SOURCE = {
    "6.12-clang-lto": "6.12",
    "tdx-host-clang-lto": "tdx-host",
    "6.12-plain": "6.12",
}
ON_THE_WAY = (Phase.KEXEC, Phase.CRASH)


@cache
def image(build: str) -> KernelImage:
    return load_image(BUILT / build / "bzImage")


@cache
def table(build: str) -> TruthTable:
    return truth_table(image(build))


def policy(build: str) -> ImagePolicy:
    lacks = lacking(image(build))
    return image_policy(table(build), lacks=lacks, release=image(build).release)


def rows(build: str) -> Mapping[RawFacts, TruthRow]:
    return {row.facts: row for row in table(build).rows}


@pytest.fixture(params=SAME_SOURCE)
def build(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_every_row_is_as_in_gcc_s_build(build: str) -> None:
    """Sites, the order of the stop protocol, encryption and the crash: nothing is unknown."""
    assert rows(build) == rows(SAME_SOURCE[build])
    assert all(decision.flushes is not None for decision in decisions(build))


def decisions(build: str) -> list[SiteDecision]:
    return [decision for row in table(build).rows for decision in row.sites.values()]


def test_the_rule_and_its_conditions_are_the_same(build: str) -> None:
    mine, other = policy(build), policy(SAME_SOURCE[build])
    assert mine.equals == other.equals != ()
    assert mine.unknown == ()


def test_no_input_is_unlisted(build: str) -> None:
    found = dependencies(image(build))
    assert {site: reasons for site, reasons in found.unlisted.items() if reasons} == {}


def test_the_same_flushes_lie_on_the_way_to_the_next_kernel(build: str) -> None:
    """Compared is what the functions are there for; they may be inlined into each other."""
    assert roles(build) == roles(SAME_SOURCE[build])


def roles(build: str) -> set[str]:
    places = wbinvd_inventory(image(build)).places
    found: list[FlushRole | None] = [place.role for place in places]
    assert None not in found
    known = [role for role in found if role is not None]
    on_the_way = {role.name for role in known if role.phase in ON_THE_WAY}
    return on_the_way | {role.phase for role in known if role.phase is Phase.OFFLINE}


def test_no_place_is_undecided(build: str) -> None:
    assert wbinvd_inventory(image(build)).undecided == ()


def test_a_kernel_that_lists_functions_only_does_what_its_whole_table_says(tmp_path: Path) -> None:
    """Read without the System.map beside it."""
    alone = tmp_path / "bzImage"
    shutil.copyfile(BUILT / "6.12-plain" / "bzImage", alone)
    image = load_image(alone)
    assert "cpu_number" not in image.symbols
    assert truth_table(image).rows == table("6.12-plain").rows

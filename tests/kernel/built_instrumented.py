# SPDX-License-Identifier: GPL-2.0-or-later
"""Instrumentation must not change what is read, and what it stores after the flush is seen.

Not run by default, as the kernels take minutes to build: ``make instrumented``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest

from staleline.cli.main import main
from staleline.kernel.boot.decision import Decision, Fate, RawMachine
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.dependencies import dependencies
from staleline.kernel.rule.truthrows import TruthTable
from staleline.kernel.rule.truthtable import truth_table
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import Through
from tests.findings import FINDINGS, quotations, quoted_in_order
from tests.kernel.eras import ERA_OF_SERIES
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.rule.test_truthtable import answer, expected
from tools import fetch_kernels

BUILT = fetch_kernels.default_cache() / "built"
ROME = RawMachine(cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, mem_encrypt=True)
#: Build -> in what a secondary leaves lines behind.
LEFT_BEHIND: Mapping[str, frozenset[str]] = {
    "6.12-gcov": frozenset({"__gcov0.stop_this_cpu"}),
    "6.12-kasan-inline": frozenset({"per-CPU irq_stack_backing_store"}),
}
PAGE = tuple(quotations(FINDINGS / "stores-after-the-flush.md"))


@cache
def image(build: str) -> KernelImage:
    return load_image(BUILT / build / "bzImage")


@cache
def table(build: str) -> TruthTable:
    return truth_table(image(build))


@pytest.fixture(params=LEFT_BEHIND)
def build(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def series(build: str) -> str:
    return "6.12" if build.startswith("6.12") else "7"


def on_rome(build: str) -> Decision:
    return KernelReader(image(build)).decide(ROME)


def test_every_row_is_what_the_source_says(build: str) -> None:
    era = ERA_OF_SERIES[series(build)]
    rows = [row for row in table(build).rows if not row.facts.seamcalled]
    mismatches = {
        row.facts: (answer(row), expected(era, row.facts))
        for row in rows
        if answer(row) != expected(era, row.facts)
    }
    assert mismatches == {}


def test_a_secondary_leaves_behind_what_its_instrumentation_stores(build: str) -> None:
    decision = on_rome(build).stop_this_cpu
    assert decision.flushes
    names = {store.line.split("+")[0] for store in decision.left_behind}
    assert names == LEFT_BEHIND[build]
    assert {store.through for store in decision.left_behind} <= {Through.OWN}


def test_the_jumping_cpu_leaves_nothing_behind(build: str) -> None:
    """``relocate_kernel`` is assembly, which no compiler instruments."""
    decision = on_rome(build).relocate_kernel
    assert decision.flushes
    assert {store.fate for store in decision.stores} == {Fate.JUMPS_ALONG}


def test_no_input_is_unlisted(build: str) -> None:
    found = dependencies(image(build))
    assert {site: reasons for site, reasons in found.unlisted.items() if reasons} == {}


@pytest.mark.parametrize("number", range(len(PAGE)))
def test_the_page_quotes_what_is_printed(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    main(PAGE[number].command({image: BUILT.parent / image for image in PAGE[number].images}))
    output = capsys.readouterr().out
    assert quoted_in_order(PAGE[number], output), output


def test_the_page_shows_all_three_commands() -> None:
    assert {quoted.arguments[0] for quoted in PAGE} == {"kernel", "audit", "preflight"}

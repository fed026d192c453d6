# SPDX-License-Identifier: GPL-2.0-or-later
"""A real kernel's truth table equals what the source of its series says, row by row."""

from __future__ import annotations

from collections import Counter

import pytest

from staleline.kernel.image import KernelImage, load_image
from staleline.kernel.rawfacts import RawFacts
from staleline.kernel.rawmachine import raw_machine
from staleline.kernel.reader import KernelReader
from staleline.kernel.truthtable import TruthRow, TruthTable, truth_table
from staleline.vocabulary import Site
from tests.kernel.eras import ERA_OF_SERIES, Era, sme_active
from tests.kernel.machines import Facts
from tests.kernel.mutate import patched


@pytest.fixture(scope="module")
def image(real_kernel) -> KernelImage:
    return load_image(real_kernel.path)


@pytest.fixture(scope="module")
def table(image) -> TruthTable:
    return truth_table(image)


@pytest.fixture
def era(real_kernel) -> Era:
    return ERA_OF_SERIES[real_kernel.series]


def named_as_in_the_kernel(facts: RawFacts) -> Facts:
    return Facts(
        vendor=facts.vendor,
        leaf=facts.leaf,
        sme=facts.sme,
        sev=facts.sev,
        hypervisor=facts.hypervisor,
        enabled=facts.sme_enabled,
        mem_encrypt=facts.mem_encrypt,
        sev_status=facts.sev_status,
    )


def answer(row: TruthRow) -> tuple[object, ...]:
    sites = (Site.STOP_THIS_CPU, Site.RELOCATE_KERNEL)
    return (*(row.sites[site].flushes for site in sites), row.encrypts, row.reported)


def expected(era: Era, row: RawFacts) -> tuple[object, ...]:
    facts = named_as_in_the_kernel(row)
    flushes = era.stop_this_cpu(facts)
    reported = era.reported_stopped if flushes else None
    return flushes, era.relocate_kernel(facts), sme_active(facts), reported


def test_every_row_is_what_the_source_says(table, era):
    mismatches = {
        row.facts: (answer(row), expected(era, row.facts))
        for row in table.rows
        if answer(row) != expected(era, row.facts)
    }
    assert mismatches == {}


def test_there_are_at_least_396_rows_each_once(table):
    assert len(table.rows) >= 396
    assert Counter(row.facts for row in table.rows).most_common(1)[0][1] == 1


def test_few_rows_are_run(table):
    """Nothing is gained if merging does not merge."""
    assert table.runs < len(table.rows) / 4


def test_encrypts_is_the_facts_own_word(table):
    assert {row.facts for row in table.rows if row.encrypts} == {
        row.facts for row in table.rows if row.facts.encrypts
    }


@pytest.mark.parametrize("series", ["6.12"])
def test_merged_and_unmerged_tables_are_the_same(real_kernels, series):
    image = load_image(real_kernels[series].path)
    merged = truth_table(image)
    reader = KernelReader(image)
    assert merged.runs < len(merged.rows)
    for row in merged.rows:
        decision = reader.decide(raw_machine(row.facts))
        assert row.sites[Site.STOP_THIS_CPU] == decision.stop_this_cpu
        assert row.sites[Site.RELOCATE_KERNEL] == decision.relocate_kernel
        assert row.sites[Site.CRASH_NMI_CALLBACK] == decision.crash_nmi_callback
        assert (row.encrypts, row.reported) == (decision.sme_active, decision.reported_stopped)


def test_an_image_that_never_ends_is_given_up(real_kernels):
    """Three runs out of instructions, and the rest is unknown for that reason."""
    image = load_image(real_kernels["6.12"].path)
    endless = patched(image, image.symbols.address("identify_cpu"), b"\xeb\xfe")
    table = truth_table(endless)
    assert table.runs == 3
    reasons = Counter(site.unknown for row in table.rows for site in row.sites.values())
    assert None not in reasons
    assert "3 of them without an end" in reasons.most_common(1)[0][0]


def test_a_table_without_time_is_unknown(real_kernels):
    table = truth_table(load_image(real_kernels["6.12"].path), seconds=-1)
    assert table.runs == 0
    assert {site.flushes for row in table.rows for site in row.sites.values()} == {None}

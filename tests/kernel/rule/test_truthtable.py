# SPDX-License-Identifier: GPL-2.0-or-later
"""A real kernel's truth table equals what the source of its series says, row by row."""

from __future__ import annotations

import tomllib
import weakref
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.image.image import KernelImage
from staleline.kernel.rule.enumeration import raw_facts
from staleline.kernel.rule.truthrows import TruthRow, TruthTable
from staleline.kernel.rule.truthtable import truth_table
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import Site
from tests.kernel.eras import ERA_OF_SERIES, Era, sme_active
from tests.kernel.mutate import patched
from tests.kernel.places import address_of, size_of
from tests.kernel.tables import can_exist, named_as_in_the_kernel
from tools import fetch_kernels


@dataclass(frozen=True)
class Kernel:
    image: KernelImage
    era: Era
    table: TruthTable


def cached_kernels() -> list[str]:
    """Required images and whatever else is in the cache, of every flavour."""
    wanted = tomllib.loads(fetch_kernels.WANTED.read_text())
    cached = fetch_kernels.read_index(fetch_kernels.default_cache())
    return [
        fetch_kernels.identifier(entry)
        for entry in fetch_kernels.entries(wanted)
        if entry.get("keep") != "package"
        and (not entry.get("optional") or fetch_kernels.identifier(entry) in cached)
    ]


@pytest.fixture(scope="module", params=cached_kernels())
def kernel(request, real_kernels) -> Kernel:
    image = real_kernels[request.param].image
    era = ERA_OF_SERIES[request.param.split("-")[0]]
    return Kernel(image, era, truth_table(image))


def answer(row: TruthRow) -> tuple[object, ...]:
    sites = tuple(row.sites[site].flushes for site in Site)
    assert row.crash_relocate_kernel is not None
    return (*sites, row.crash_relocate_kernel.flushes, row.encrypts, row.reported)


def expected(era: Era, row: RawFacts) -> tuple[object, ...]:
    """What the source says, site by site.

    In a crash ``kdump_sev_callback()`` flushes on SNP hosts: arch/x86/virt/svm/sev.c:597
    (6.12), :1102 (7.3); before 6.9 no secondary does. The jumping CPU goes through the same
    ``machine_kexec()`` as on a kexec, and a kexec jump changes nothing about it:
    arch/x86/kernel/relocate_kernel_64.S tests preserve_context after the WBINVD (5.10 to 7.3).
    """
    facts = named_as_in_the_kernel(row)
    flushes = era.stop_this_cpu(facts)
    jumping = era.relocate_kernel(facts)
    return (
        flushes,
        jumping,
        row.snp_host,
        jumping,
        sme_active(facts),
        era.reported_stopped if flushes else None,
    )


def test_every_row_is_what_the_source_says(kernel):
    mismatches = {
        row.facts: (answer(row), expected(kernel.era, row.facts))
        for row in kernel.table.rows
        if answer(row) != expected(kernel.era, row.facts)
    }
    assert mismatches == {}


def test_there_are_at_least_396_rows_each_once(kernel):
    assert len(kernel.table.rows) >= 396
    assert len({row.facts for row in kernel.table.rows}) == len(kernel.table.rows)


def test_snp_hosts_are_asked_of_kernels_that_can_be_one(kernel):
    has_code = "kdump_sev_callback" in kernel.image.symbols
    assert any(row.facts.snp_host for row in kernel.table.rows) is has_code


def test_sev_es_guests_are_asked_of_every_kernel(kernel):
    guests = [row.facts for row in kernel.table.rows if row.facts.sev_es]
    assert {facts.vendor for facts in guests} == {"AuthenticAMD", "HygonGenuine"}
    assert all(can_exist(facts) for facts in guests)


def test_snp_guests_are_asked_of_every_kernel_and_do_as_other_guests(kernel):
    """Where a CPU says SME, its guests flush as well, whatever kind they are.

    cache_state_incoherent of early_detect_mem_encrypt() (linux 7.3.4
    arch/x86/kernel/cpu/amd.c:574), the leaf in stop_this_cpu() (6.12.117
    arch/x86/kernel/process.c:841). `test_every_row_is_what_the_source_says` has the rest.
    """
    rows = {row.facts: row for row in kernel.table.rows}
    guests = [facts for facts in rows if facts.snp_guest]
    assert len(guests) == 8  # SME or not, SYSCFG[23] shown or not, mem_encrypt=on or not
    for facts in guests:
        assert can_exist(facts)
        assert facts.sev_es
        assert answer(rows[facts]) == answer(rows[replace(facts, snp_guest=False)])
        assert None not in answer(rows[facts])[:5]


def test_few_rows_are_run(kernel):
    """Nothing is gained if merging does not merge."""
    assert kernel.table.runs < len(kernel.table.rows) / 4


def test_encrypts_is_the_facts_own_word(kernel):
    for row in kernel.table.rows:
        assert row.encrypts is row.facts.encrypts


@pytest.mark.parametrize("series", ["6.12"])
def test_merged_and_unmerged_tables_are_the_same(real_kernels, series):
    image = real_kernels[series].image
    merged = truth_table(image)
    reader = KernelReader(image)
    assert merged.runs < len(merged.rows)
    for row in merged.rows:
        decision = reader.decide(raw_machine(row.facts))
        assert row.sites[Site.STOP_THIS_CPU] == decision.stop_this_cpu
        assert row.sites[Site.RELOCATE_KERNEL] == decision.relocate_kernel
        assert row.sites[Site.CRASH_NMI_CALLBACK] == decision.crash_nmi_callback
        assert row.crash_relocate_kernel == decision.crash_relocate_kernel
        assert (row.encrypts, row.reported) == (decision.sme_active, decision.reported_stopped)


def test_what_a_reader_maps_goes_with_it(real_kernels):
    """Not when the garbage collector comes by: each image takes some 60 MB."""
    image = real_kernels["6.12"].image
    reader = KernelReader(image)
    machine = raw_machine(raw_facts()[0])
    with reader.starts() as start:
        assert start(machine).record
    del start
    assert reader.run(machine).record
    memory = weakref.ref(reader._emulated.memory)
    del reader
    assert memory() is None


@pytest.mark.parametrize("series", ["6.12", "7"])
def test_a_kexec_jump_is_unknown_where_the_kernel_does_not_say_it_looks(real_kernels, series):
    """``struct kimage`` may be laid out otherwise in kernels not seen yet."""
    image = real_kernels[series].image
    start = address_of(image, "machine_kexec")
    code = image.read(start, size_of(image, "machine_kexec"))
    offset = next(
        n.to_bytes(4, "little") for n in (0x278, 0x2F8) if n.to_bytes(4, "little") in code
    )
    moved = patched(image, start, code.replace(offset, bytes.fromhex("00030000")))
    jump = next(facts for facts in raw_facts() if facts.preserve_context)
    kexec = replace(jump, preserve_context=False)
    unknown, known = truth_table(moved, [jump, kexec]).rows
    assert "preserve_context" in (unknown.sites[Site.RELOCATE_KERNEL].unknown or "")
    assert known.sites[Site.RELOCATE_KERNEL].flushes is False


@pytest.mark.parametrize(("function", "runs"), [("sme_enable", 0), ("identify_cpu", 3)])
def test_an_image_that_never_ends_is_given_up(real_kernels, function, runs):
    """Three runs out of instructions, and the rest is unknown for that reason."""
    image = real_kernels["6.12"].image
    endless = patched(image, address_of(image, function), b"\xeb\xfe")
    table = truth_table(endless)
    assert table.runs == runs
    reasons = Counter(site.unknown for row in table.rows for site in row.sites.values())
    assert None not in reasons
    assert "3 runs had no end" in (reasons.most_common(1)[0][0] or "")


@pytest.mark.parametrize("function", ["sme_enable", "identify_cpu"])
def test_a_failing_image_is_unknown_in_every_row(real_kernels, function):
    """Each row for the reason that its own machine would give."""
    image = real_kernels["6.12"].image
    broken = patched(image, address_of(image, function), b"\x0f\x0b")
    table = truth_table(broken)
    reasons = {site.unknown for row in table.rows for site in row.sites.values()}
    assert len(reasons) == 1
    assert f"{function}() on CPU 0 did not return: unexpected ud2" in (reasons.pop() or "")


def test_a_table_without_time_is_unknown(real_kernels):
    table = truth_table(real_kernels["6.12"].image, seconds=-1)
    assert table.runs == 0
    assert {site.flushes for row in table.rows for site in row.sites.values()} == {None}


def test_code_that_changes_itself_is_unknown(real_kernels):
    """A change would last into the next run, where nothing made it."""
    image = real_kernels["6.12"].image
    code = address_of(image, "identify_cpu")
    change_itself = b"\xc6\x05\xf9\xff\xff\xff\x90\xc3"  # movb $0x90, -7(%rip); ret
    (row,) = truth_table(patched(image, code, change_itself), raw_facts()[:1]).rows
    assert "write to the kernel's code at" in (row.sites[Site.STOP_THIS_CPU].unknown or "")

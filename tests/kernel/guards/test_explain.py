# SPDX-License-Identifier: GPL-2.0-or-later
"""The guards of real kernels, each instruction of them executed, against the sources.

Line numbers are those of Debian's linux-source packages 5.10.262, 6.12.117 and 7.3.4.
"""

from __future__ import annotations

from itertools import product

import pytest

from staleline.kernel.boot.rawfacts import RawFacts
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.guards.explain import explain
from staleline.kernel.guards.guard import Guard
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from staleline.kernel.rule.truthrows import TruthTable
from staleline.kernel.rule.truthtable import truth_table
from staleline.vocabulary import Site, Through
from tests.conftest import RealKernel
from tests.kernel.mutate import find_guard, patched
from tests.kernel.places import address_of
from tests.kernel.plant import (
    CAVE,
    fills_global,
    global_variable,
    on_condition,
    planted_before_halt,
)


def facts() -> list[RawFacts]:
    """A machine that encrypts, and those that differ from it in few facts."""
    vendors = ("AuthenticAMD", "HygonGenuine", "GenuineIntel")
    return [
        RawFacts(
            vendor=vendor,
            leaf=leaf,
            sme=sme,
            sev=False,
            hypervisor=False,
            sme_enabled=enabled,
            sev_status=False,
            mem_encrypt=mem_encrypt,
        )
        for vendor in vendors
        for leaf, sme, enabled, mem_encrypt in product((False, True), repeat=4)
    ]


def table_of(image: KernelImage) -> TruthTable:
    return truth_table(image, facts())


def explanations(kernel: RealKernel) -> dict[Site, list[Guard]]:
    image = load_image(kernel.path)
    found: dict[Site, list[Guard]] = {}
    for one in explain(image, table_of(image), raw_machine):
        found.setdefault(one.site, []).append(one)
    return found


def read_by(explanation: Guard) -> dict[str, set[str]]:
    """Input that another machine has otherwise -> the facts that it follows."""
    return {
        one.what.split("+")[0]: set(one.others)
        for line in explanation.lines
        for one in line.inputs
        if one.others
    }


def decided_by(explanation: Guard) -> set[str]:
    return {name for line in explanation.lines for name in line.decides}


@pytest.mark.parametrize("series", ["5.10", "6.12", "7"])
def test_every_explanation_ends_at_the_wbinvd_and_says_what_decided(
    real_kernels: dict[str, RealKernel], series: str
) -> None:
    for several in explanations(real_kernels[series]).values():
        for one in several:
            assert one.lines[-1].text == "wbinvd"
            assert [line.text for line in one.lines].count("wbinvd") == 1
            assert all(line.text[0] == "j" for line in one.lines if line.decides)
            # What decides is read by a line that is shown.
            told = {name for found in read_by(one).values() for name in found}
            assert decided_by(one) <= told


def test_5_10_asks_the_feature_flag_of_the_boot_cpu(
    real_kernels: dict[str, RealKernel],
) -> None:
    # arch/x86/kernel/process.c:753 boot_cpu_has(X86_FEATURE_SME); cleared by SYSCFG[23] on
    # AMD only (amd.c:784), so that Hygon has a way of its own.
    ways = {one.facts.vendor: one for one in explanations(real_kernels["5.10"])[Site.STOP_THIS_CPU]}
    assert read_by(ways["AuthenticAMD"]) == {"boot_cpu_data": {"leaf", "sme", "sme_enabled"}}
    assert read_by(ways["HygonGenuine"]) == {"boot_cpu_data": {"vendor", "leaf", "sme"}}


def test_6_12_asks_cpuid_itself_at_one_site_and_sme_me_mask_at_the_other(
    real_kernels: dict[str, RealKernel],
) -> None:
    # process.c:839: c->extended_cpuid_level, then cpuid_eax(0x8000001f) & BIT(0);
    # arch/x86/coco/core.c:80 for CC_ATTR_HOST_MEM_ENCRYPT.
    found = explanations(real_kernels["6.12"])
    (stop,), (relocate,) = found[Site.STOP_THIS_CPU], found[Site.RELOCATE_KERNEL]
    assert read_by(stop) == {"per-CPU cpu_info": {"leaf"}, "CPUID 0x8000001f EAX": {"sme"}}
    assert read_by(relocate) == {"sme_me_mask": {"leaf", "sme", "sme_enabled", "mem_encrypt"}}
    assert "test r12, r12" in [line.text for line in relocate.lines]


def test_7_reads_one_flag_at_both_sites(real_kernels: dict[str, RealKernel]) -> None:
    # process.c:841 and machine_kexec_64.c:433: cache_state_incoherent of this CPU, which
    # only arch/x86/kernel/cpu/amd.c:572 sets.
    for several in explanations(real_kernels["7"]).values():
        (one,) = several
        flag = {"per-CPU cache_state_incoherent": {"vendor", "leaf", "sme"}}
        assert read_by(one) == flag


def test_a_guard_that_is_gone_is_not_explained(real_kernels: dict[str, RealKernel]) -> None:
    image = real_kernels["7"].image
    guard = find_guard(image, "stop_this_cpu")
    always = patched(image, *guard.always)
    (stop,) = (
        one
        for one in explain(always, table_of(always), raw_machine)
        if one.site is Site.STOP_THIS_CPU
    )
    assert [line.text for line in stop.lines] == ["wbinvd"]
    never = patched(image, *guard.no_flush)
    sites = {one.site for one in explain(never, table_of(never), raw_machine)}
    assert sites == {Site.RELOCATE_KERNEL}


@pytest.mark.parametrize("series", ["5.10", "6.12", "7"])
def test_real_kernels_leave_nothing_behind_what_is_explained(
    real_kernels: dict[str, RealKernel], series: str
) -> None:
    for several in explanations(real_kernels[series]).values():
        assert [one.left_behind for one in several] == [()] * len(several)


def test_what_is_left_dirty_behind_the_wbinvd_is_told_with_its_place(
    real_kernels: dict[str, RealKernel],
) -> None:
    image = real_kernels["7"].image
    spoilt = planted_before_halt(image, fills_global(address_of(image, "panic_timeout"), 4))
    (stop,) = (
        one
        for one in explain(spoilt, table_of(spoilt), raw_machine)
        if one.site is Site.STOP_THIS_CPU
    )
    assert stop.lines[-1].text == "wbinvd"
    (store,) = stop.left_behind
    assert (store.line, store.through) == ("panic_timeout", Through.OWN)
    assert store.code.startswith(f"{CAVE}+")  # where the code was planted


def test_what_only_another_machine_leaves_behind_is_told_as_well(
    real_kernels: dict[str, RealKernel],
) -> None:
    """Asked behind the flush: is this machine one with SEV?"""
    image = real_kernels["7"].image
    fill = fills_global(address_of(image, "panic_timeout"), 4)
    spoilt = planted_before_halt(image, on_condition(global_variable(mask(image)), fill))
    table = table_of(spoilt)
    left = {row.facts.encrypts for row in table.rows if row.left_behind(Site.STOP_THIS_CPU)}
    assert left == {True}
    found = [
        one
        for one in explain(spoilt, table, raw_machine)
        if one.site is Site.STOP_THIS_CPU and one.left_behind
    ]
    assert found
    assert all(one.facts.encrypts for one in found)
    assert {store.line for one in found for store in one.left_behind} == {"panic_timeout"}


def mask(image: KernelImage) -> int:
    """sme_me_mask, whose C-bit is in another of its bytes."""
    return address_of(image, "sme_me_mask") + 5

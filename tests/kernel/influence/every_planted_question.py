# SPDX-License-Identifier: GPL-2.0-or-later
"""Every question into every kernel, at every place; run by name, as it takes its time.

``pytest tests/kernel/influence/every_planted_question.py``; `test_dependencies` has a sample of it.
"""

from __future__ import annotations

import os
import random

import pytest

from staleline.vocabulary import Site
from tests.kernel.image.test_alternatives import with_alternative
from tests.kernel.influence.plantedguards import named_by_the_site, sample
from tests.kernel.influence.test_dependencies import (
    assert_names,
    image,
    questions,
    series,
    unlisted,
    what_guards,
)
from tests.kernel.mutate import find_guard
from tests.kernel.places import address_of
from tests.kernel.plant import (
    executes_wbinvd,
    flushing_at_entry,
    global_bit,
    on_condition,
    per_cpu_bit,
    planted,
    planted_before_halt,
    planted_before_report,
    pushes,
    storing_nothing,
)

__all__ = ["image", "series"]

#: Guards in each of the four kernels; docs/images.md says how many there can be.
GUARDS = int(os.environ.get("PLANTED_GUARDS", "250"))

PLACES = {
    "__sysvec_reboot": Site.STOP_THIS_CPU,
    "kdump_nmi_callback": Site.CRASH_NMI_CALLBACK,
    "stop_this_cpu": Site.STOP_THIS_CPU,
    "machine_kexec": Site.RELOCATE_KERNEL,
    "crash_nmi_callback": Site.CRASH_NMI_CALLBACK,
}


@pytest.mark.parametrize("function", PLACES)
@pytest.mark.parametrize("number", range(7))
def test_one_more_reason_to_flush(image, function, number):
    name, asks = list(questions(image).items())[number]
    mutant = planted(image, function, asks, executes_wbinvd)
    assert_names(unlisted(mutant), PLACES[function], name)


@pytest.mark.parametrize("number", range(7))
def test_one_more_reason_not_to_flush(image, number):
    name, asks = list(questions(image).items())[number]
    mutant = planted(image, "machine_kexec", asks, what_guards(image))
    assert_names(unlisted(mutant), Site.RELOCATE_KERNEL, name)


def behind_the_flush(image, name, does):
    """Not in the static branch before the HLT, which is varied too, but where there is no other
    place, or where the question changes the register with the number of the CPU that reports."""
    at_the_end = "cpus_stop_mask" not in image.symbols or name.startswith("CPUID")
    return (planted_before_halt if at_the_end else planted_before_report)(image, does)


@pytest.mark.parametrize("number", range(7))
def test_one_more_store_after_the_flush(image, number):
    name, asks = list(questions(image).items())[number]
    mutant = behind_the_flush(image, name, on_condition(storing_nothing(asks), pushes))
    assert_names(unlisted(mutant), Site.STOP_THIS_CPU, name)


@pytest.mark.parametrize("number", range(7))
def test_one_more_reason_to_flush_too_early(image, number):
    """Behind a flush at the entry, what comes until the end is left behind or flushed again."""
    name, asks = list(questions(image).items())[number]
    mutant = planted_before_halt(
        flushing_at_entry(image, "stop_this_cpu"), on_condition(asks, executes_wbinvd)
    )
    reasons = unlisted(mutant)[Site.STOP_THIS_CPU]
    # Where nothing else flushes later, what is stored at all may depend on more.
    assert any(f"also depends on {name}" in reason for reason in reasons)


@pytest.mark.parametrize("place", ["stop_this_cpu", "identity_mapped"])
@pytest.mark.parametrize("feature", range(0, 18 * 32, 37))
def test_a_feature_that_patches_a_flush_away(image, place, feature):
    """Whichever it is, but for the one that every CPU has, which is applied."""
    flush = find_guard(image, place).flush
    found = unlisted(with_alternative(image, flush.address, b"\x90\x90", feature))
    site = Site.STOP_THIS_CPU if place == "stop_this_cpu" else Site.RELOCATE_KERNEL
    (reason,) = found[site]
    assert "code patched with CPU feature" in reason


#: Bytes of x86_capability in struct cpuinfo_x86, which begin at 0x28 and are 80 in 5.10, more since
#: (arch/x86/include/asm/processor.h, cpufeatures.h NCAPINTS, 5.10 to 7.3).
CAPABILITIES = range(0x28, 0x78)


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("where", ["boot_cpu_data", "cpu_info"])
def test_a_guard_on_a_feature_flag(image, series, where, number):
    """``boot_cpu_has()`` and ``this_cpu_has()``; what facts set of a word leaves others open."""
    choice = random.Random(f"{series} {where} {number}")
    place, bit = choice.choice(CAPABILITIES), choice.randrange(8)
    asks = global_bit if where == "boot_cpu_data" else per_cpu_bit
    question = asks(address_of(image, where) + place, bit)
    found = unlisted(planted(image, "stop_this_cpu", question, executes_wbinvd))
    words = {place & ~mask for mask in (0, 3, 7)}
    names = [f"{where}+{word:#x}" for word in words]
    assert any(name in reason for reason in found[Site.STOP_THIS_CPU] for name in names)


@pytest.mark.parametrize("number", range(GUARDS))
def test_a_guard_of_some_form_on_some_input(image, series, number):
    guard = sample(image, GUARDS, series)[number]
    assert any(name.startswith(guard.asked.name) for name in named_by_the_site(image, guard)), guard

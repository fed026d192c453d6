# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever form a guard has, what it asks is named; `every_planted_question` has many more."""

from __future__ import annotations

import pytest

from staleline.kernel.image import KernelImage, load_image
from tests.kernel.plantedguards import FORMS, PlantedGuard, named_by_the_site, planted_guards

#: Form and input of a guard that changing the input does not bring out.
GUARDS = {
    "5.10": ("a flush in stop_this_cpu", "an odd number", "panic_on_warn"),
    "6.12": ("a store after the flush", "a jump table", "CR3"),
    "6.18": ("no flush in machine_kexec", "SBB", "CPUID 0x1 EBX"),
    "7": ("a flush in crash_nmi_callback", "all ones", "page_offset_base"),
}


@pytest.fixture(scope="module", params=GUARDS)
def series(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def image(series, real_kernels) -> KernelImage:
    return load_image(real_kernels[series].path)


def guard(image: KernelImage, where: str, form: str, asked: str) -> PlantedGuard:
    (found,) = (
        one
        for one in planted_guards(image)
        if (one.where, one.form, one.asked.name) == (where, form, asked)
    )
    return found


def test_what_a_guard_asks_is_named(image, series):
    where, form, asked = GUARDS[series]
    named = named_by_the_site(image, guard(image, where, form, asked))
    assert any(name.startswith(asked) for name in named)


def test_there_are_more_than_a_thousand_of_all_forms(image):
    guards = list(planted_guards(image))
    assert {one.form for one in guards} == set(FORMS)
    assert len(guards) > 1000

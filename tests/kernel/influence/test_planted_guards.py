# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever form a guard has, what it asks is named; `every_planted_question` has many more."""

from __future__ import annotations

import pytest

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.dependencies import dependencies
from staleline.vocabulary import Site
from tests.kernel.influence.plantedguards import (
    FORMS,
    PlantedGuard,
    named_by_the_site,
    planted_guards,
)
from tests.kernel.plant import Bytes, planted_call, relative

#: Form and input of a guard that changing the input does not bring out.
GUARDS = {
    "5.10": ("a flush in stop_this_cpu", "an odd number", "panic_on_warn"),
    "6.12": ("a store after the flush", "a jump table", "CR3"),
    "6.18": ("no flush in machine_kexec", "SBB", "CPUID 0x1 EBX"),
    "7": ("a flush in crash_nmi_callback", "all ones", "page_offset_base"),
}


@pytest.fixture(scope="module", params=GUARDS)
def series(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image(series, real_kernels) -> KernelImage:
    return real_kernels[series].image


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


def test_the_lowest_bits_of_a_pointer_may_be_an_index(real_kernels):
    image = real_kernels["5.10"].image
    planted = guard(image, "a flush in stop_this_cpu", "a jump table", "page_offset_base")
    assert "page_offset_base" in named_by_the_site(image, planted)


def asks_twice(variable: int) -> Bytes:
    """Is it 42? The first time that ends in INT3, the second in a WBINVD."""

    def code(at: int) -> bytes:
        kept = bytes.fromhex("9c51 31c9")  # pushf; push rcx; xor ecx, ecx
        compare = at + len(kept)
        asks = b"\x83\x3d" + relative(compare + 7, variable) + b"\x2a"  # cmp dword [variable], 42
        # jne +7; test ecx, ecx; jne +1; int3; wbinvd; inc ecx; cmp ecx, 2; jl back to cmp
        loop = bytes.fromhex("7507 85c9 7501 cc 0f09 ffc1 83f902 7ce9")
        return kept + asks + loop + bytes.fromhex("599d")  # pop rcx; popf

    return code


def test_a_guard_that_fails_when_it_always_goes_the_other_way(image):
    mutant = planted_call(
        image, "stop_this_cpu", asks_twice(image.symbols.address("panic_on_warn"))
    )
    (reason,) = dependencies(mutant).unlisted[Site.STOP_THIS_CPU]
    assert "panic_on_warn" in reason


def test_there_are_more_than_a_thousand_of_all_forms(image):
    guards = list(planted_guards(image))
    assert {one.form for one in guards} == set(FORMS)
    assert len(guards) > 1000

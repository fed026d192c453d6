# SPDX-License-Identifier: GPL-2.0-or-later
"""Guards that ask several things at once, of which none matters by itself."""

from __future__ import annotations

import pytest

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.at_sites import search_sites
from staleline.kernel.influence.first_way import FirstWay
from staleline.kernel.influence.rows import machines
from staleline.vocabulary import Site
from tests.kernel.places import address_of
from tests.kernel.plant import (
    Bytes,
    executes_wbinvd,
    planted_before_halt,
    planted_call,
    pushes,
    relative,
)

SERIES = ["5.10", "6.12", "7"]
#: What holds none of the odd numbers that the guards ask for.
ASKED = {"panic_on_warn": 3, "panic_timeout": 5, "panic_on_oops": 77}


@pytest.fixture(scope="module", params=SERIES)
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def if_all(image: KernelImage, count: int, does: Bytes) -> Bytes:
    """``if (a == 3 && b == 5 ...)``, with a jump over the rest for each."""
    asked = list(ASKED.items())[:count]
    size = 9  # cmp dword [rip + displacement], imm8; jne

    def code(at: int) -> bytes:
        action = does(at + size * count)
        questions = b""
        for index, (name, number) in enumerate(asked):
            compare = relative(at + size * index + 7, address_of(image, name)) + bytes([number])
            skip = size * (count - index - 1) + len(action)
            questions += b"\x83\x3d" + compare + b"\x75" + bytes([skip])
        return questions + action

    return code


def kept_flags(code: Bytes) -> Bytes:
    return lambda at: b"\x9c" + code(at + 1) + b"\x9d"


def unlisted(image: KernelImage, site: Site) -> set[str]:
    reruns = FirstWay(image)
    with reruns.series():
        found = search_sites(reruns, list(machines(image)), sites=(site,))
    return {one.name for one in found[site].influences.values() if not one.explained}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_store_behind_the_flush_on_several_conditions(image: KernelImage, count: int) -> None:
    mutant = planted_before_halt(image, if_all(image, count, pushes))
    assert "panic_on_warn" in unlisted(mutant, Site.STOP_THIS_CPU)


@pytest.mark.parametrize("count", [2, 3])
def test_a_flush_on_several_conditions(image: KernelImage, count: int) -> None:
    guard = kept_flags(if_all(image, count, executes_wbinvd))
    mutant = planted_call(image, "machine_kexec", guard)
    assert "panic_on_warn" in unlisted(mutant, Site.RELOCATE_KERNEL)


def test_a_condition_on_a_constant_behind_another_is_none(image: KernelImage) -> None:
    """``if (a == 3 && 1 == 5)``, which no input makes true."""

    def code(at: int) -> bytes:
        compare = relative(at + 7, address_of(image, "panic_on_warn")) + b"\3"
        constant = b"\xb8\1\0\0\0\x83\xf8\5\x75\2"  # mov eax, 1; cmp eax, 5; jne
        return b"\x83\x3d" + compare + b"\x75\x0c" + constant + pushes(0)

    assert unlisted(planted_before_halt(image, code), Site.STOP_THIS_CPU) == set()

# SPDX-License-Identifier: GPL-2.0-or-later
"""What a site asks only when an NMI, or a crash, leads to it is named as well."""

from __future__ import annotations

import pytest

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.second_ways import second_ways_aside
from staleline.vocabulary import Site
from tests.kernel.places import address_of
from tests.kernel.plant import Bytes, executes_wbinvd, planted_call, relative

#: A number that no change of a variable brings out.
_ODD = b"\xed\xfe\x34\x02"


@pytest.fixture(scope="module", params=["5.10", "6.12", "6.18", "7"])
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def by_second_ways(image: KernelImage) -> dict[Site, tuple[str, ...]]:
    return dict(second_ways_aside(image)({}))


def if_it_is_odd(variable: int, does: Bytes) -> Bytes:
    """Do this where four bytes are one certain number."""

    def code(at: int) -> bytes:
        asked = b"\x9c\x81\x3d" + relative(at + 11, variable) + _ODD  # pushf; cmp dword
        action = does(at + len(asked) + 2)
        return asked + b"\x75" + bytes([len(action)]) + action + b"\x9d"  # jne; popf

    return code


def unless_a_kexec_is_in_progress(image: KernelImage, does: Bytes) -> Bytes:
    """Do this in a crash alone."""
    flag = address_of(image, "kexec_in_progress")

    def code(at: int) -> bytes:
        asked = b"\x80\x3d" + relative(at + 7, flag) + b"\0"  # cmp byte [flag], 0
        action = does(at + len(asked) + 2)
        return asked + b"\x75" + bytes([len(action)]) + action

    return code


def test_a_kernel_as_released_asks_no_more(image):
    assert by_second_ways(image) == {}


def test_a_guard_in_the_handler_of_the_nmi(image):
    guard = if_it_is_odd(address_of(image, "panic_on_warn"), executes_wbinvd)
    mutant = planted_call(image, "smp_stop_nmi_callback", guard)
    (reason,) = by_second_ways(mutant)[Site.STOP_THIS_CPU]
    assert reason.startswith("stop_this_cpu also depends on panic_on_warn (4 bytes")
    assert reason.endswith("where a CPU has to be told by an NMI, which no fact sets")


def test_a_guard_that_asks_in_a_crash_alone(image):
    guard = if_it_is_odd(address_of(image, "panic_on_warn"), executes_wbinvd)
    crashing = unless_a_kexec_is_in_progress(image, guard)
    mutant = planted_call(image, "machine_kexec", crashing)
    reasons = by_second_ways(mutant)[Site.RELOCATE_KERNEL]
    assert any("panic_on_warn" in reason and " in a crash" in reason for reason in reasons)


def test_what_is_told_of_the_first_way_is_not_told_twice(real_kernels):
    image = real_kernels["7"].image
    guard = if_it_is_odd(address_of(image, "panic_on_warn"), executes_wbinvd)
    told = (
        "stop_this_cpu also depends on panic_on_warn (4 bytes, 0x0 in the image), "
        "which no fact sets"
    )
    unlisted = {Site.STOP_THIS_CPU: (told,)}
    mutant = planted_call(image, "stop_this_cpu", guard)
    assert second_ways_aside(mutant)(unlisted) == unlisted

# SPDX-License-Identifier: GPL-2.0-or-later
"""Bits of an address that decide, however they get there, decide by where KASLR puts the kernel.

It moves the kernel by multiples of 2 MiB within 1 GiB (arch/x86/Kconfig, 5.10 to 7.3).
"""

from __future__ import annotations

import pytest

from staleline.kernel.image.image import KernelImage
from staleline.kernel.influence.guardinputs import unlisted_bits
from staleline.kernel.influence.inflow import WHERE_IT_LIES
from staleline.vocabulary import Site
from tests.kernel.influence.test_beyond import unlisted
from tests.kernel.influence.test_inflow import decides
from tests.kernel.plant import executes_wbinvd, planted_call

#: Of the address of a planted guard; each leaves ZF clear for yes.
ASKS = {
    "memory": "6a00 488d0500000000 48890424 f744240000002000 59",  # lea; mov [rsp], rax; test; pop
    "an argument": "488d3d00000000 e802000000 eb07 f7c700002000 c3",  # call; jmp; test edi; ret
    "a return address": "e800000000 59 f7c100002000",  # call; pop rcx; test
}


@pytest.fixture(scope="module", params=["5.10", "7"])
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


@pytest.mark.parametrize("way", ["memory", "an argument", "a return address"])
def test_a_bit_of_an_address_is_named(image: KernelImage, way: str) -> None:
    asks = bytes.fromhex(ASKS[way])

    def code(at: int) -> bytes:
        return b"\x9c\x50\x51\x57" + asks + b"\x74\x02" + executes_wbinvd(at) + b"\x5f\x59\x58\x9d"

    mutant = planted_call(image, "stop_this_cpu", code)
    assert WHERE_IT_LIES in unlisted(mutant, Site.STOP_THIS_CPU)


@pytest.mark.parametrize(
    ("codes", "mask"),
    [
        # lea rax, [rip]; test eax, 1 << 21; jne
        (["488d0500000000", "a900002000", "7502"], 1 << 21),
        # mov rax, 0xffffffff81000000; shr rax, 21; and eax, 1; je
        (["48c7c000000081", "48c1e815", "83e001", "7402"], 1 << 21),
        # lea rax, [rip]; cmp rax, rdi; je: as a whole
        (["488d0500000000", "4839f8", "7402"], (1 << 64) - 1),
    ],
)
def test_the_bits_that_are_asked(codes: list[str], mask: int) -> None:
    assert decides(*codes)[WHERE_IT_LIES] == mask


@pytest.mark.parametrize(
    ("mask", "unlisted"),
    [(1 << 21, 1 << 21), (7, 0), ((1 << 64) - 1, 0), ((1 << 32) - 1, 0), (0x30_0000, 0x20_0000)],
)
def test_those_that_kaslr_changes(mask: int, unlisted: int) -> None:
    """An alignment is none, nor are two addresses that are compared."""
    assert unlisted_bits(WHERE_IT_LIES, mask, varied=0, fixed=0) == unlisted


def test_no_number_that_is_small_is_an_address() -> None:
    """mov rax, -2; test eax, 1 << 21; jne."""
    assert decides("48c7c0feffffff", "a900002000", "7502") == {}

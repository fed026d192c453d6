# SPDX-License-Identifier: GPL-2.0-or-later
"""A condition behind which the emulated machine ends, and a real one does something, is told."""

from __future__ import annotations

import pytest

from staleline.kernel.emulator.execution.unmodelled import is_unmodelled
from staleline.kernel.emulator.refused import LONGEST_INSTRUCTION, decode_refused
from staleline.kernel.image.image import KernelImage
from staleline.vocabulary import Site
from tests.kernel.influence.test_beyond import kept_flags, unlisted
from tests.kernel.places import address_of
from tests.kernel.plant import Bytes, planted_call, relative


@pytest.fixture(scope="module", params=["5.10", "7"])
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def where_it_warns(image: KernelImage, does: str) -> Bytes:
    """``if (panic_on_warn == 42)`` do it."""
    action = bytes.fromhex(does)

    def code(at: int) -> bytes:
        compare = relative(at + 7, address_of(image, "panic_on_warn")) + b"\x2a"
        return b"\x83\x3d" + compare + b"\x75" + bytes([len(action)]) + action

    return kept_flags(code)


@pytest.mark.parametrize(
    "does",
    [
        "e680",  # out 0x80, al
        "0f01d9",  # vmmcall
        "f30f09",  # wbnoinvd
        "f4",  # hlt, for good
    ],
)
def test_what_leads_there_is_named(image: KernelImage, does: str) -> None:
    mutant = planted_call(image, "__sysvec_reboot", where_it_warns(image, does))
    assert "panic_on_warn" in unlisted(mutant, Site.STOP_THIS_CPU)


def test_what_leads_to_a_bug_is_not(image: KernelImage) -> None:
    """That ends the kernel, and a kexec with it."""
    mutant = planted_call(image, "stop_this_cpu", where_it_warns(image, "0f0b"))
    assert unlisted(mutant, Site.STOP_THIS_CPU) == set()


@pytest.mark.parametrize(
    ("code", "unmodelled"),
    [
        ("0f33", True),  # rdpmc
        ("0f08", True),  # invd
        ("f20f01ff", True),  # pvalidate, which the decoder does not know
        ("488b00", False),  # mov rax, [rax], of an address that is none
        ("c3", False),
        ("58", False),
        ("0f0b", False),  # ud2
        ("48cf", True),  # iretq
    ],
)
def test_the_instructions(code: str, unmodelled: bool) -> None:
    padded = bytes.fromhex(code).ljust(LONGEST_INSTRUCTION, b"\x90")
    assert is_unmodelled(padded, decode_refused(padded)) is unmodelled

# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest

from staleline.errors import UsageError
from staleline.kernel.image.assembly import load_image
from staleline.kernel.image.image import KernelImage
from staleline.kernel.inventory.inventory import wbinvd_inventory
from staleline.simulation.observation import LineAccess
from staleline.simulation.places import NamedPlaces
from staleline.simulation.skipping import skipped_flush
from staleline.vocabulary import Site
from tests.conftest import RealKernel
from tests.kernel.sites.test_decisions_unknown import Without


@cache
def image_of(path: Path) -> KernelImage:
    return load_image(path)


@pytest.fixture
def image(real_kernels: dict[str, RealKernel]) -> KernelImage:
    return image_of(real_kernels["6.12"].path)


def place_in(image: KernelImage, function: str) -> int:
    places = wbinvd_inventory(image).places
    (address,) = (place.address for place in places if place.function == function)
    return address


def test_kernels_have_names_of_their_own(image: KernelImage) -> None:
    address = place_in(image, "stop_this_cpu")
    places = NamedPlaces(image, None, slide=0x1000000)
    assert places(LineAccess(1, 1, "kernel", address + 0x1000000)).startswith("stop_this_cpu+0x")
    assert places(LineAccess(1, 2, "kernel", address)) == f"{address:#x}"  # no image to ask


def test_the_copy_of_relocate_kernel_is_named_by_its_offset(image: KernelImage) -> None:
    address = place_in(image, "identity_mapped")
    copied = LineAccess(0, 2, "kernel", 0x62E5000 + (address & 0xFFF))
    words = NamedPlaces(image, None)(copied, before_handover=True)
    assert words.startswith("identity_mapped+0x")
    assert words.endswith(f"copied to {copied.rip:#x}")


@pytest.mark.parametrize(
    ("mode", "rip", "words"),
    [
        ("device", 0, "a device"),
        ("user", 0x401000, "user space, 0x401000"),
        ("kernel", 0x99001, "trampoline of starting CPUs, 0x99001"),
        ("kernel", 0x1000080, "the probe, 0x1000080"),
    ],
)
def test_what_has_no_name_says_what_it_is(
    image: KernelImage, mode: str, rip: int, words: str
) -> None:
    assert NamedPlaces(image, None)(LineAccess(0, 2, mode, rip)) == words


def test_a_skipped_flush_is_where_the_site_flushes(image: KernelImage) -> None:
    assert skipped_flush(image, Site.STOP_THIS_CPU) == f"{place_in(image, 'stop_this_cpu'):x}@1"
    offset = place_in(image, "identity_mapped") & 0xFFF
    assert skipped_flush(image, Site.RELOCATE_KERNEL) == f"+{offset:x}@2"


def test_a_flush_whose_copy_cannot_be_found_is_not_said_to_be_skipped(image: KernelImage) -> None:
    nameless = replace(image, symbols=cast("Any", Without(image.symbols, "relocate_kernel")))
    with pytest.raises(UsageError, match="where relocate_kernel begins is not known"):
        skipped_flush(nameless, Site.RELOCATE_KERNEL)

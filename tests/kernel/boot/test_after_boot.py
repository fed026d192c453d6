# SPDX-License-Identifier: GPL-2.0-or-later
"""Code that a boot patches in any case does what it does in the image: real kernels, both ways."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.kernel.boot.rawfacts import ENCRYPTING_HOST
from staleline.kernel.boot.rawmachine import raw_machine
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.boot.afterboot import as_after_boot, patches

MACHINES = {
    "encrypts": ENCRYPTING_HOST,
    "jump": replace(ENCRYPTING_HOST, preserve_context=True),
    "SNP host": replace(ENCRYPTING_HOST, snp_host=True),
    "SNP guest": replace(
        ENCRYPTING_HOST,
        hypervisor=True,
        sme_enabled=False,
        sev_status=True,
        sev_es=True,
        snp_guest=True,
    ),
    "Hygon": replace(ENCRYPTING_HOST, vendor="HygonGenuine", mem_encrypt=False),
    "Intel": replace(ENCRYPTING_HOST, vendor="GenuineIntel", leaf=False, sme_enabled=False),
}


@pytest.fixture(scope="module", params=["5.10", "6.1", "6.12", "6.17", "6.18", "7"])
def images(request, real_kernels) -> tuple[KernelImage, KernelImage]:
    image = real_kernels[request.param].image
    after, counts = as_after_boot(image)
    assert counts["fentry"] > 20_000
    assert counts["return"] > 40_000
    assert counts["retpoline"] > 5_000
    assert counts["static call"] > 100
    return image, after


def test_every_answer_and_every_store_is_the_same(images):
    """Also what is stored behind the flush: `Store.code` is of the same instruction."""
    before, after = (KernelReader(each) for each in images)
    for name, facts in MACHINES.items():
        machine = raw_machine(facts)
        assert after.decide(machine) == before.decide(machine), name


def test_the_patched_places_are_on_the_way(images):
    """Else the test above would show nothing: the sites and the ways to them are among them."""
    image, _ = images
    wanted = {"native_stop_other_cpus", "stop_this_cpu", "machine_kexec"}
    found = {
        (image.symbols.enclosing(address) or ("", 0))[0]: kind
        for kind, address, _ in patches(image)
        if kind == "fentry"
    }
    assert wanted <= found.keys()

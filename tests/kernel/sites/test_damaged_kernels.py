# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever code an image holds, there is an answer or a reason, and no hang."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from staleline.kernel.boot.decision import RawMachine
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import patched

FUNCTIONS = [
    "sme_enable",
    "early_cpu_init",
    "identify_cpu",
    "stop_this_cpu",
    "machine_kexec",
    "identity_mapped",
]


@pytest.fixture(scope="module")
def image(real_kernels) -> KernelImage:
    return real_kernels["6.12"].image


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    function=st.sampled_from(FUNCTIONS),
    place=st.floats(0, 1, exclude_max=True),
    code=st.binary(min_size=1, max_size=12),
)
def test_any_code_anywhere(image, function, place, code):
    address = image.symbols.address(function)
    offset = int(place * image.symbols.size_of(function))
    machine = RawMachine(
        cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, mem_encrypt=True
    )
    decision = KernelReader(patched(image, address + offset, code)).decide(machine)
    for site in (decision.stop_this_cpu, decision.relocate_kernel):
        assert (site.flushes is None) == bool(site.unknown)

# SPDX-License-Identifier: GPL-2.0-or-later
"""Code that looks at KASAN's shadow, and writes there, as a kernel built with it does.

The code is planted into Debian's kernel, which has no KASAN; ``make instrumented`` builds some.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.kernel.boot.decision import RawMachine, SiteDecision
from staleline.kernel.emulator.kasan import shadow_of, shadowed_by
from staleline.kernel.emulator.layout import APIC, SHADOW, stack_of
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import Through
from tests.conftest import RealKernel
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.plant import Bytes, planted_before_halt, reads_byte, stores_control_page

ROME = RawMachine(cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, mem_encrypt=True)
_VMALLOC = 0xFFFF_C900_0000_0000  # Documentation/arch/x86/x86_64/mm.rst (6.12)


@pytest.fixture(scope="module", params=["6.12", "7-generic"])
def plain(request: pytest.FixtureRequest, real_kernels: dict[str, RealKernel]) -> KernelImage:
    return real_kernels[request.param].image


@pytest.fixture(scope="module")
def image(plain: KernelImage) -> KernelImage:
    """With the name by which a kernel with KASAN is known."""
    somewhere = plain.symbols.address("panic_timeout")
    assert somewhere is not None
    return replace(plain, symbols=plain.symbols.with_added({"kasan_init": somewhere}))


def stops(image: KernelImage, does: Bytes) -> SiteDecision:
    return KernelReader(planted_before_halt(image, does)).decide(ROME).stop_this_cpu


def variable(image: KernelImage) -> int:
    address = image.symbols.address("cpus_stop_mask")
    assert address is not None
    return address


def stack(image: KernelImage) -> int:
    return MachineMemory(image).direct(stack_of(1).stop - 64)


def test_what_shadows_what() -> None:
    """Documentation/arch/x86/x86_64/mm.rst (6.12): the shadow is ffffec00… to fffffbff…."""
    assert shadow_of(0xFFFF_8000_0000_0000) == 0xFFFF_EC00_0000_0000
    assert shadow_of((1 << 64) - 1) == 0xFFFF_FBFF_FFFF_FFFF == SHADOW[-1]
    assert shadowed_by(shadow_of(APIC.start)) == APIC.start
    assert 0xFFFF_8880_0000_0000 not in SHADOW  # the direct map


@pytest.mark.parametrize("where", ["variable", "stack", "APIC", "vmalloc"])
def test_a_look_at_the_shadow_is_no_store(image: KernelImage, where: str) -> None:
    looked_at = {
        "variable": variable(image),
        "stack": stack(image),
        "APIC": APIC.start,
        "vmalloc": _VMALLOC,
    }
    decision = stops(image, reads_byte(shadow_of(looked_at[where])))
    assert decision.flushes
    assert not decision.left_behind


def test_a_store_to_the_shadow_is_left_behind(image: KernelImage) -> None:
    (store,) = stops(image, stores_control_page(shadow_of(stack(image)))).left_behind
    assert (store.line, store.through) == ("the shadow of the stack of CPU 1", Through.OWN)
    (store,) = stops(image, stores_control_page(shadow_of(variable(image)))).left_behind
    assert store.line.startswith("the shadow of cpus_stop_mask")


def test_a_store_to_the_shadow_of_what_is_not_there_is_not_understood(image: KernelImage) -> None:
    decision = stops(image, stores_control_page(shadow_of(_VMALLOC)))
    assert decision.flushes is None
    assert "write to unmapped address" in str(decision.unknown)


def test_a_kernel_without_kasan_has_no_shadow(plain: KernelImage) -> None:
    decision = stops(plain, reads_byte(shadow_of(variable(plain))))
    assert decision.flushes is None
    assert "read of unmapped address" in str(decision.unknown)


def test_one_run_s_shadow_is_not_the_next_s(image: KernelImage) -> None:
    memory = MachineMemory(image)
    memory.write(shadow_of(variable(image)), b"\xf1")
    memory.reset()
    assert memory.read(shadow_of(variable(image)), 1) == b"\0"

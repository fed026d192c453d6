# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs that go offline have flushed: by HLT everywhere, by MWAIT on Intel up to 6.12."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.kernel.decision import RawMachine, SiteDecision
from staleline.kernel.image import load_image
from staleline.kernel.offline import PlayDead
from staleline.kernel.reader import KernelReader
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import patched
from tests.kernel.test_decisions_unknown import Without

UP_TO_6_12 = {"5.10", "6.1", "6.12"}
FLUSHES = SiteDecision(flushes=True)


def machine(name: str) -> RawMachine:
    return RawMachine(cpuid(name), cpuid(name), {SYSCFG: MEM_ENCRYPT_ENABLED}, mem_encrypt=True)


@pytest.mark.parametrize("name", ["Rome", "Hygon C86 3250", "K8"])
def test_amd_and_hygon_wait_in_hlt(real_kernel, name):
    """hlt_play_dead(): arch/x86/kernel/smpboot.c:1747 (5.10.262), :1380 (6.12.117), :1495 (7.3.4).

    mwait_play_dead() returns on these vendors (5.10.262:1694, 6.12.117:1278).
    """
    reader = KernelReader(load_image(real_kernel.path))
    assert reader.play_dead(machine(name)) == PlayDead(FLUSHES, "hlt_play_dead")


def test_intel_waited_in_mwait_up_to_6_12(real_kernel):
    """mwait_play_dead() is inlined; later only cpuidle drivers call it (7.3.4 smpboot.c:1514)."""
    reader = KernelReader(load_image(real_kernel.path))
    place = "native_play_dead" if real_kernel.series in UP_TO_6_12 else "hlt_play_dead"
    assert reader.play_dead(machine("Sapphire Rapids")) == PlayDead(FLUSHES, place)


def test_a_kernel_whose_hlt_play_dead_does_not_flush(real_kernels):
    image = load_image(real_kernels["7"].path)
    start, size = image.symbols.address("hlt_play_dead"), image.symbols.size_of("hlt_play_dead")
    flush = start + image.read(start, size).index(b"\x0f\x09")
    reader = KernelReader(patched(image, flush, b"\x66\x90"))
    expected = PlayDead(SiteDecision(flushes=False), "hlt_play_dead")
    assert reader.play_dead(machine("Rome")) == expected


@pytest.mark.parametrize("what", ["play_dead", "tdx_shutdown_cpu"])
def test_an_image_without_the_function_is_unknown(real_kernels, what):
    image = load_image(real_kernels["7"].path)
    without = replace(image, symbols=Without(image.symbols, "native_play_dead"))
    found = getattr(KernelReader(without), what)(machine("Rome"))
    decision = found.decision if isinstance(found, PlayDead) else found
    assert decision.flushes is None
    assert decision.unknown.startswith("the image has no symbol ")

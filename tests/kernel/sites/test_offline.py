# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs that go offline have flushed: by HLT everywhere, by MWAIT on Intel up to 6.12.

Nothing is dirty behind that until a kexec kicks those that wait in MWAIT.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.kernel.boot.decision import RawMachine, SiteDecision
from staleline.kernel.image.assembly import load_image
from staleline.kernel.sites.offline import PlayDead
from staleline.kernel.sites.runner import KernelReader
from staleline.kernel.sites.wakeups import wakes_offline
from staleline.vocabulary import Through
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import patched
from tests.kernel.places import address_of, size_of
from tests.kernel.sites.test_decisions_unknown import Without

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
    offline = reader.play_dead(machine("Sapphire Rapids"))
    assert offline.decision == FLUSHES  # and stores nothing behind it
    assert offline.rests_in == place


KICKED_IN = {
    "6.1": ("play_dead", "native_play_dead"),
    "6.12": ("play_dead", "native_play_dead"),
    "6.17": ("mwait_play_dead", "mwait_play_dead"),
    "6.18": ("mwait_play_dead", "mwait_play_dead"),
    "7": ("mwait_play_dead", "mwait_play_dead"),
}


@pytest.mark.parametrize("series", KICKED_IN)
def test_a_cpu_that_is_kicked_out_of_mwait_leaves_the_line_of_its_state(real_kernels, series):
    """WRITE_ONCE(md->status, CPUDEAD_MWAIT_KEXEC_HLT), 7.3.4 smpboot.c:1459, 6.12.117 :1344."""
    way, function = KICKED_IN[series]
    image = load_image(real_kernels[series].path)
    offline = getattr(KernelReader(image), way)(machine("Sapphire Rapids"))
    assert (offline.decision, offline.rests_in) == (FLUSHES, function)
    assert offline.woken.flushes is True
    (store,) = offline.woken.left_behind
    assert (store.line, store.size) == ("per-CPU mwait_cpu_dead+0x4", 4)
    assert store.through is Through.OWN
    assert store.code.startswith(f"{function}+")


@pytest.mark.parametrize("name", ["Rome", "Hygon C86 3250", "Sapphire Rapids"])
def test_who_is_said_to_wake_leaves_a_line_when_it_is_run(real_kernel, name):
    """`wakes_offline` goes by names, for AMD and Hygon: here the code says so."""
    image = load_image(real_kernel.path)
    reader = KernelReader(image)
    ways = (reader.play_dead(machine(name)), reader.mwait_play_dead(machine(name)))
    wakes = any(way.woken is not None and way.woken.left_behind for way in ways)
    if name == "Sapphire Rapids":
        assert wakes is ("smp_kick_mwait_play_dead" in image.symbols)
    else:
        assert wakes is wakes_offline(image)


def test_in_5_10_nobody_is_kicked(real_kernels):
    offline = KernelReader(load_image(real_kernels["5.10"].path)).play_dead(
        machine("Sapphire Rapids")
    )
    assert offline == PlayDead(FLUSHES, "native_play_dead", woken=None)


def test_what_is_stored_behind_the_flush_is_told(real_kernels):
    """The HLT of ``hlt_play_dead()`` becomes a push and a HLT."""
    image = load_image(real_kernels["7"].path)
    start, size = address_of(image, "hlt_play_dead"), size_of(image, "hlt_play_dead")
    flush = start + image.read(start, size).index(b"\x0f\x09")
    offline = KernelReader(patched(image, flush, b"\x0f\x09\x50\xf4")).play_dead(machine("Rome"))
    (store,) = offline.decision.left_behind
    assert (offline.rests_in, store.size, store.line) == ("hlt_play_dead", 8, "the stack of CPU 1")


def test_a_kick_that_does_not_end_in_hlt_is_unknown(real_kernels):
    image = load_image(real_kernels["7"].path)
    start = address_of(image, "mwait_play_dead")
    code = image.read(start, size_of(image, "mwait_play_dead"))
    halt = start + code.rindex(b"\xf4\xeb")
    mutant = patched(image, halt, b"\x0f\x0b")
    woken = KernelReader(mutant).mwait_play_dead(machine("Rome")).woken
    assert woken is not None
    assert woken.flushes is None
    assert "unexpected ud2" in (woken.unknown or "")


def test_a_kernel_whose_hlt_play_dead_does_not_flush(real_kernels):
    image = load_image(real_kernels["7"].path)
    start, size = address_of(image, "hlt_play_dead"), size_of(image, "hlt_play_dead")
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
    assert (decision.unknown or "").startswith("the image has no symbol ")

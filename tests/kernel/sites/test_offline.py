# SPDX-License-Identifier: GPL-2.0-or-later
"""CPUs that go offline flush; behind that ACPI's idle driver stores, and a kick out of MWAIT.

What a CPU sleeps in depends on its idle driver, so all ways that an image has are run.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.kernel.boot.decision import OfflineWay, RawMachine, SiteDecision
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import Through
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import patched
from tests.kernel.places import address_of, size_of
from tests.kernel.sites.test_decisions_unknown import Without

UP_TO_6_12 = {"5.10", "6.1", "6.12"}
FLUSHES = SiteDecision(flushes=True)
HLT = "hlt_play_dead() by HLT"
ACPI_HLT = "acpi_idle_play_dead() by HLT"
ACPI_PORT = "acpi_idle_play_dead() by an I/O port"
#: What a kick stores to: linux 7.3.4 arch/x86/kernel/smpboot.c:1459.
STATE = "per-CPU mwait_cpu_dead+0x4"


def machine(name: str) -> RawMachine:
    return RawMachine(cpuid(name), cpuid(name), {SYSCFG: MEM_ENCRYPT_ENABLED}, mem_encrypt=True)


def ways(image: KernelImage, name: str) -> dict[str, OfflineWay]:
    found = KernelReader(image).offline_ways(machine(name))
    by_name = {way.name: way for way in found}
    assert len(by_name) == len(found)
    return by_name


@pytest.mark.parametrize("name", ["Rome", "Hygon C86 3250", "K8"])
def test_amd_and_hygon_wait_in_hlt(real_kernel, name):
    """hlt_play_dead(): arch/x86/kernel/smpboot.c:1747 (5.10.262), :1380 (6.12.117), :1495 (7.3.4).

    mwait_play_dead() returns on these vendors (5.10.262:1694, 6.12.117:1278).
    """
    assert ways(real_kernel.image, name)[HLT] == OfflineWay(HLT, FLUSHES)


def test_intel_waited_in_mwait_up_to_6_12(real_kernel):
    """mwait_play_dead() is inlined; later only cpuidle drivers call it (7.3.4 smpboot.c:1514)."""
    place = "native_play_dead() by MWAIT" if real_kernel.series in UP_TO_6_12 else HLT
    found = ways(real_kernel.image, "Sapphire Rapids")[place]
    assert found.asleep == FLUSHES  # and stores nothing behind it
    assert found.by_mwait is (place != HLT)


def test_acpis_idle_driver_stores_a_return_address_behind_its_flush(real_kernel):
    """ACPI_FLUSH_CPU_CACHE(), then a call: drivers/acpi/processor_idle.c:585 and :592 (7.3.4).

    Of pv_ops.irq.safe_halt by HLT, of io_idle() by a port since 6.6; 5.10 and 6.1 read it in line.
    """
    found = ways(real_kernel.image, "Rome")
    for name in (ACPI_HLT, ACPI_PORT):
        stores = found[name].asleep.left_behind
        assert found[name].asleep.flushes
        if name == ACPI_PORT and real_kernel.series in {"5.10", "6.1"}:
            assert stores == ()
        else:
            (store,) = stores
            assert (store.line, store.size, store.through) == ("the stack of CPU 1", 8, Through.OWN)
            assert store.code.startswith("acpi_idle_play_dead+")


KICKED_OUT_OF = {
    "6.1": "native_play_dead() by MWAIT",
    "6.12": "native_play_dead() by MWAIT",
    "6.17": "mwait_play_dead() by MWAIT",
    "6.18": "mwait_play_dead() by MWAIT",
    "7": "mwait_play_dead() by MWAIT",
}


@pytest.mark.parametrize("series", KICKED_OUT_OF)
def test_a_cpu_that_is_kicked_out_of_mwait_leaves_the_line_of_its_state(real_kernels, series):
    """WRITE_ONCE(md->status, CPUDEAD_MWAIT_KEXEC_HLT), 7.3.4 smpboot.c:1459, 6.12.117 :1344."""
    way = KICKED_OUT_OF[series]
    found = ways(real_kernels[series].image, "Sapphire Rapids")[way]
    assert found.asleep == FLUSHES
    assert found.woken is not None
    assert found.woken.flushes is True
    (store,) = found.woken.left_behind
    assert (store.line, store.size, store.through) == (STATE, 4, Through.OWN)
    assert store.code.startswith(f"{way.split('(')[0]}+")


@pytest.mark.parametrize("name", ["Rome", "Hygon C86 3250"])
def test_cpus_of_amd_and_hygon_wait_in_mwait_where_acpi_names_the_hint(real_kernel, name):
    """Up to 6.12 mwait_play_dead() returns at once there (6.12.118 arch/x86/kernel/smpboot.c).

    Kernels with acpi_processor_ffh_play_dead() take the hint from ACPI, on every vendor's CPUs
    (7.3.4 arch/x86/kernel/acpi/cstate.c:209).
    """
    image = real_kernel.image
    waits = [way for way in ways(image, name).values() if way.by_mwait]
    assert bool(waits) is ("acpi_processor_ffh_play_dead" in image.symbols)
    assert all(way.woken is not None and way.woken.left_behind for way in waits)


def test_in_5_10_nobody_is_kicked(real_kernels):
    found = ways(real_kernels["5.10"].image, "Sapphire Rapids")
    assert all(way.woken is None for way in found.values())


def flush_of(image: KernelImage, function: str) -> int:
    start = address_of(image, function)
    return start + image.read(start, size_of(image, function)).index(b"\x0f\x09")


def test_what_is_stored_behind_the_flush_is_told(real_kernels):
    """The HLT of ``hlt_play_dead()`` becomes a push and a HLT."""
    image = real_kernels["7"].image
    mutant = patched(image, flush_of(image, "hlt_play_dead"), b"\x0f\x09\x50\xf4")
    (store,) = ways(mutant, "Rome")[HLT].asleep.left_behind
    assert (store.size, store.line) == (8, "the stack of CPU 1")


def test_a_kick_that_does_not_end_in_hlt_is_unknown(real_kernels):
    image = real_kernels["7"].image
    start = address_of(image, "mwait_play_dead")
    code = image.read(start, size_of(image, "mwait_play_dead"))
    halt = start + code.rindex(b"\xf4\xeb")
    woken = ways(patched(image, halt, b"\x0f\x0b"), "Rome")["mwait_play_dead() by MWAIT"].woken
    assert woken is not None
    assert woken.flushes is None
    assert "unexpected ud2" in (woken.unknown or "")


@pytest.mark.parametrize(
    ("function", "way"),
    [
        ("hlt_play_dead", HLT),
        ("mwait_play_dead", "mwait_play_dead() by MWAIT"),
        ("acpi_idle_play_dead", ACPI_PORT),
    ],
)
def test_a_kernel_that_does_not_flush_there(real_kernels, function, way):
    image = real_kernels["7"].image
    mutant = patched(image, flush_of(image, function), b"\x66\x90")
    assert ways(mutant, "Rome")[way].asleep == SiteDecision(flushes=False)
    others = {name for name, one in ways(mutant, "Rome").items() if not one.asleep.flushes}
    assert others == ({ACPI_PORT, ACPI_HLT} if "acpi" in function else {way})


@pytest.mark.parametrize("name", ["native_play_dead", "acpi_cstate"])
def test_an_image_without_the_name_is_unknown(real_kernels, name):
    image = real_kernels["7"].image
    without = replace(image, symbols=Without(image.symbols, name))
    unknown = [way.asleep.unknown for way in ways(without, "Rome").values() if way.asleep.unknown]
    assert unknown
    assert set(unknown) == {f"the image has no symbol {name}"}

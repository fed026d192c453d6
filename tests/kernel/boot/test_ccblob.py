# SPDX-License-Identifier: GPL-2.0-or-later
"""What firmware gives SNP guests, and what kernels make of it."""

from __future__ import annotations

import struct

import pytest

from staleline.kernel.boot.ccblob import give_cc_blob
from staleline.kernel.boot.decision import RawMachine
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.reading.surroundings import read_surroundings
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.machines import SEV_STATUS, cpuid
from tests.kernel.mutate import patched
from tests.kernel.places import address_of

SNP_GUEST = 0b111
#: Kernels whose sme_enable() ends an SNP guest without a blob (arch/x86/boot/startup/sme.c:536).
INSISTING = ("6.17", "6.18", "7")


def guest(status: int = SNP_GUEST, name: str = "Milan") -> RawMachine:
    table = cpuid(name)
    return RawMachine(table, table, {SEV_STATUS: status})


@pytest.mark.parametrize("series", ["6.1", "6.12", *INSISTING])
def test_an_snp_guest_boots_and_stops(real_kernels, series):
    """Milan has SME, so secondaries flush; the jumping CPU does so since 6.18.

    linux 6.12.117 arch/x86/kernel/process.c:841 stop_this_cpu(); 7.3.4 arch/x86/kernel/
    machine_kexec_64.c machine_kexec() with cache_state_incoherent, amd.c:574.
    """
    decision = KernelReader(real_kernels[series].image).decide(guest())
    assert decision.stop_this_cpu.flushes is True
    assert decision.relocate_kernel.flushes is (series in {"6.18", "7"})
    assert decision.crash_nmi_callback.flushes is False
    assert decision.crash_relocate_kernel.flushes is decision.relocate_kernel.flushes
    assert decision.sme_active is False


@pytest.mark.parametrize("series", INSISTING)
def test_without_a_blob_the_guest_ends(real_kernels, series, monkeypatch):
    """It is the blob that makes the difference."""
    monkeypatch.setattr("staleline.kernel.boot.startup.give_cc_blob", lambda *_: None)
    decision = KernelReader(real_kernels[series].image).decide(guest())
    assert " at sev_es_terminate+0x" in (decision.stop_this_cpu.unknown or "")


@pytest.mark.parametrize("series", ["6.12", "7"])
def test_a_blob_where_there_is_no_snp_ends_any_machine(real_kernels, series, monkeypatch):
    """linux 6.12.117 arch/x86/mm/mem_encrypt_identity.c:535."""
    monkeypatch.setattr(LogicalCpu, "is_snp_guest", property(lambda _: True))
    decision = KernelReader(real_kernels[series].image).decide(guest(status=0b11))
    assert " at sev_es_terminate+0x" in (decision.stop_this_cpu.unknown or "")


def test_the_kernel_keeps_the_cpuid_page(real_kernels):
    """``setup_cpuid_table()``, arch/x86/boot/startup/sev-shared.c (7.3.4)."""
    image = real_kernels["7"].image
    reader = KernelReader(image)
    assert reader.encrypts(guest(), "") is False  # SEV encrypts, and not the kernel
    at = address_of(image, "__pi_cpuid_table_copy")
    (count,) = struct.unpack("<I", reader._emulated.memory.read(at, 4))
    entries = struct.iter_unpack("<IIQQIIIIQ", reader._emulated.memory.read(at + 16, 48 * count))
    copied = {leaf: registers for leaf, _, _, _, *registers, _ in entries}
    assert set(copied) == {0, 1, 7, 0x8000_0000, 0x8000_0001, 0x8000_001F}
    assert all(tuple(copied[leaf]) == cpuid("Milan").read(leaf) for leaf in copied)
    assert reader._emulated.memory.read_int(address_of(image, "sev_secrets_pa"), 8) == 0x7000


def test_a_host_is_given_none(real_kernels):
    memory = MachineMemory(real_kernels["7"].image)
    give_cc_blob(memory, LogicalCpu(0, cpuid("Milan"), {SEV_STATUS: 0b11}))
    assert memory.read(0x4000, 0x5000) == bytes(0x5000)


def test_what_firmware_copied_is_asked_like_anything_else(real_kernels):
    """Else a run would be taken for one that repeats another with other leaves."""
    image = real_kernels["7"].image
    reader = KernelReader(image)
    with reader.starts() as start:
        first = start(guest())
        assert (0, SEV_STATUS) in first.record
        assert (0, 1, 0) in first.record
        other = start(guest(name="Genoa"))
    assert other.record[0, 1, 0] != first.record[0, 1, 0]
    assert other.state != first.state


def test_rmpadjust_is_no_instruction_elsewhere(real_kernels):
    image = real_kernels["7"].image
    code = address_of(image, "early_cpu_init")
    rmpadjust = patched(image, code, b"\xf3\x0f\x01\xfe\xc3")
    unknown = KernelReader(rmpadjust).decide(guest(status=0b11)).stop_this_cpu.unknown
    assert "early_cpu_init() on CPU 0 did not return: unexpected rmpadjust" in (unknown or "")


@pytest.mark.parametrize("series", ["6.12", "7"])
def test_sev_status_is_varied_over_the_boot_too(real_kernels, series):
    """Bit 2 without a blob ended the guest, so it could not be; 7.3.4 sme_enable()."""
    around = read_surroundings(real_kernels[series].image)
    assert around["not_varied"] == {}
    assert not any(around["unlisted"].values())

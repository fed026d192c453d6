# SPDX-License-Identifier: GPL-2.0-or-later
"""What the crash path of real kernels does: the NMI callback, and the jump after it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from staleline.kernel.boot.decision import RawMachine
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid, with_leaf
from tests.kernel.mutate import find_guard, patched
from tests.kernel.places import address_of
from tests.kernel.sites.test_decisions_unknown import Without

SNP_ENABLED = 1 << 24  # MSR_AMD64_SYSCFG_SNP_EN
AN_SNP_HOST = RawMachine(
    cpuid("Milan"),
    cpuid("Milan"),
    {SYSCFG: MEM_ENCRYPT_ENABLED | SNP_ENABLED},
    mem_encrypt=True,
    snp_host=True,
)


@pytest.fixture(scope="module")
def image(real_kernel) -> KernelImage:
    return real_kernel.image


@pytest.fixture(scope="module")
def reader(image) -> KernelReader:
    return KernelReader(image)


@pytest.fixture(scope="module")
def with_sev(real_kernels) -> KernelReader:
    """A kernel with ``kdump_sev_callback()``: Debian's cloud flavour has no SNP host support."""
    return KernelReader(real_kernels["7-generic"].image)


def test_without_snp_no_secondary_flushes(reader):
    """arch/x86/kernel/crash.c kdump_nmi_callback(): 5.10.262:87, 6.1.192:53, 7.3.4:57."""
    for name in ("Rome", "Milan", "Hygon C86 3250", "Sapphire Rapids", "K8"):
        table = cpuid(name)
        decision = reader.decide(RawMachine(table, table, {SYSCFG: MEM_ENCRYPT_ENABLED}, True))
        assert decision.crash_nmi_callback.flushes is False, name


def test_only_a_kernel_with_the_callback_flushes(reader, image, real_kernel):
    """Commit 8ef979584ea8 (6.9); empty without CONFIG_KVM_AMD_SEV (asm/sev.h, 6.12.117)."""
    has_callback = "kdump_sev_callback" in image.symbols
    assert reader.decide(AN_SNP_HOST).crash_nmi_callback.flushes is has_callback
    assert not (has_callback and real_kernel.series in {"5.10", "6.1"})


def test_an_snp_host_flushes_its_secondaries(with_sev):
    """arch/x86/virt/svm/sev.c:1096 (7.3.4)."""
    decision = with_sev.decide(AN_SNP_HOST)
    assert decision.crash_nmi_callback.flushes is True
    assert decision.crash_relocate_kernel.flushes is True


@pytest.mark.parametrize(
    ("machine", "what"),
    [
        (replace(AN_SNP_HOST, snp_host=False), "no RMP table"),
        (replace(AN_SNP_HOST, msr={SYSCFG: SNP_ENABLED}), "SYSCFG[23] clears SEV and SNP"),
        (
            replace(AN_SNP_HOST, jumping=cpuid("Rome"), secondary=cpuid("Rome")),
            "Rome has no SNP",
        ),
    ],
)
def test_the_kernel_decides_for_itself_whether_it_is_an_snp_host(with_sev, machine, what):
    """bsp_determine_snp(), arch/x86/kernel/cpu/amd.c:356, snp_probe_rmptable_info() (7.3.4)."""
    assert with_sev.decide(machine).crash_nmi_callback.flushes is False, what


def test_a_guest_is_no_snp_host(with_sev):
    eax, ebx, ecx, edx = cpuid("Milan").leaves[1, 0]
    guest = with_leaf(cpuid("Milan"), 1, (eax, ebx, ecx | 1 << 31, edx))
    machine = replace(AN_SNP_HOST, jumping=guest, secondary=guest)
    assert with_sev.decide(machine).crash_nmi_callback.flushes is False


def test_the_jumping_cpu_decides_in_a_crash_as_in_a_kexec(reader):
    """``machine_kexec()`` is shared; without TDX nothing before it changes what it reads."""
    for name in ("Rome", "Hygon C86 3250", "Sapphire Rapids"):
        for mem_encrypt in (False, True):
            table = cpuid(name)
            machine = RawMachine(table, table, {SYSCFG: MEM_ENCRYPT_ENABLED}, mem_encrypt)
            decision = reader.decide(machine)
            assert decision.crash_relocate_kernel == decision.relocate_kernel
            assert decision.relocate_kernel.flushes is not None


@pytest.mark.parametrize("name", ["native_machine_crash_shutdown", "crash_nmi_callback"])
def test_an_image_without_the_crash_path_is_unknown_there_only(real_kernels, name):
    image = real_kernels["7"].image
    reader = KernelReader(replace(image, symbols=Without(image.symbols, name)))
    decision = reader.decide(replace(AN_SNP_HOST, snp_host=False))
    assert decision.crash_nmi_callback.unknown == f"the image has no symbol {name}"
    assert decision.stop_this_cpu.flushes is True
    assert decision.relocate_kernel.flushes is True


#: Patch of kdump_sev_callback() -> what an SNP host does then, and what another machine does.
MUTATIONS = {
    "never": (False, False),
    "always": (True, True),
    "inverted": (False, True),
    "no_flush": (False, False),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_changed_guard_changes_this_site_only(real_kernels, mutation):
    image = real_kernels["7-generic"].image
    guard = find_guard(image, "kdump_sev_callback")
    reader = KernelReader(patched(image, *getattr(guard, mutation)))
    machines = (AN_SNP_HOST, replace(AN_SNP_HOST, snp_host=False))
    decisions = [reader.decide(machine) for machine in machines]
    flushes = tuple(decision.crash_nmi_callback.flushes for decision in decisions)
    assert flushes == MUTATIONS[mutation]
    for decision in decisions:
        assert decision.stop_this_cpu.flushes is True
        assert decision.relocate_kernel.flushes is True
        assert decision.crash_relocate_kernel.flushes is True


@pytest.mark.parametrize(("code", "what"), [(b"\x0f\x0b", "ud2"), (b"\xcc", "int3")])
def test_a_trap_in_the_callback_is_unknown(real_kernels, code, what):
    image = real_kernels["7-generic"].image
    start = address_of(image, "kdump_sev_callback")
    decision = KernelReader(patched(image, start + 4, code)).decide(AN_SNP_HOST)
    assert decision.crash_nmi_callback.flushes is None
    assert what in (decision.crash_nmi_callback.unknown or "")
    assert "kdump_sev_callback+0x4" in (decision.crash_nmi_callback.unknown or "")
    assert decision.stop_this_cpu.flushes is True


def test_a_shutdown_that_shoots_nobody_down_is_unknown(real_kernels):
    """A callback that was never installed says nothing about flushes."""
    image = real_kernels["7"].image
    shot = patched(image, address_of(image, "nmi_shootdown_cpus"), b"\xc3")
    decision = KernelReader(shot).decide(AN_SNP_HOST)
    expected = "native_machine_crash_shutdown() shot nobody down"
    assert decision.crash_nmi_callback.unknown == expected
    assert decision.relocate_kernel.flushes is True

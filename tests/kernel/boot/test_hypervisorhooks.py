# SPDX-License-Identifier: GPL-2.0-or-later
"""The stop path of a guest is that of its hypervisor: real kernels, and what CPUID names."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from staleline.kernel.boot.decision import Decision, RawMachine
from staleline.kernel.boot.hypervisorhooks import hook_stores, hypervisor_of
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.machines import HYPERVISOR, cpuid, with_leaf
from tests.kernel.mutate import instructions, patched
from tests.kernel.places import address_of, function_at
from tests.kernel.sites.test_decisions_unknown import Without

RETURN = b"\xc3"
SIGNATURES = {
    "KVM": b"KVMKVMKVM\0\0\0",
    "Hyper-V": b"Microsoft Hv",
    "VMware": b"VMwareVMware",
    "Jailhouse": b"Jailhouse\0\0\0",
    "Xen": b"XenVMMXenVMM",
}
#: struct machine_ops, arch/x86/include/asm/reboot.h, 5.10 to 7.3.
SHUTDOWN, CRASH_SHUTDOWN = 0x18, 0x20


def named(table, *names: str):
    """CPUID of a guest whose hypervisors call themselves so, 0x100 leaves apart."""
    for place, name in enumerate(names):
        leaf = 0x4000_0000 + 0x100 * place
        table = with_leaf(table, leaf, (leaf + 1, *struct.unpack("<3I", SIGNATURES[name])))
    return table


def guest(*names: str) -> RawMachine:
    table = named(cpuid("Rome guest"), *names)
    return RawMachine(table, table)


def answers(decision: Decision) -> tuple[object, ...]:
    return (
        decision.stop_this_cpu,
        decision.relocate_kernel.answer,
        decision.crash_nmi_callback.answer,
        decision.crash_relocate_kernel.answer,
        decision.stops,
        decision.crash_stops,
    )


@pytest.fixture(scope="module", params=["5.10", "6.1", "6.12", "6.17", "6.18", "7"])
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def stored(image: KernelImage, hypervisor: str) -> dict[int, str]:
    """Offset in machine_ops -> name of what the hypervisor's code puts there."""
    base = address_of(image, "machine_ops")
    return {
        store.slot - base: function_at(image, store.function)
        for store in hook_stores(image, hypervisor)
        if 0 <= store.slot - base < 0x30
    }


def test_what_each_hypervisor_puts_into_machine_ops(image):
    """linux 7.3.4 kernel/kvm.c:902, cpu/mshyperv.c:682, xen/enlighten_hvm.c:233 and :285."""
    assert stored(image, "x86_hyper_kvm") == {CRASH_SHUTDOWN: "kvm_crash_shutdown"}
    found = stored(image, "x86_hyper_ms_hyperv")
    assert found[SHUTDOWN] == "hv_machine_shutdown"
    assert found[CRASH_SHUTDOWN] in ("hv_machine_crash_shutdown", "hv_guest_crash_shutdown")
    assert stored(image, "x86_hyper_xen_hvm") == {
        SHUTDOWN: "xen_hvm_shutdown",
        CRASH_SHUTDOWN: "xen_hvm_crash_shutdown",
        0x28: "xen_emergency_restart",
    }
    assert stored(image, "x86_hyper_vmware") == {}


@pytest.mark.parametrize("name", ["KVM", "VMware", "Jailhouse"])
def test_a_guest_s_own_way_is_run_and_leads_to_the_same_sites(image, name):
    """Each ends in native_machine_shutdown() and native_machine_crash_shutdown()."""
    reader = KernelReader(image)
    plain = answers(reader.decide(guest()))
    assert None not in plain
    assert answers(reader.decide(guest(name))) == plain


def test_where_only_the_hypervisor_knows_it_is_unknown_with_the_function(image):
    """xen_reboot() asks Xen for a soft reset, enlighten_hvm.c:137 xen_hvm_shutdown() (7.3.4)."""
    decision = KernelReader(image).decide(guest("Xen"))
    assert "xen_hvm_shutdown() did not return: " in (decision.relocate_kernel.unknown or "")
    assert "xen_hvm_crash_shutdown() did not return: " in (
        decision.crash_relocate_kernel.unknown or ""
    )


def test_a_pv_domain_may_be_meant_where_an_image_has_code_for_both(image):
    reader, without = KernelReader(image), Without(image.symbols, "x86_hyper_xen_pv")
    decision = reader.decide(guest("Xen"))
    for site in (decision.stop_this_cpu, decision.crash_nmi_callback):
        assert site.flushes is None
        assert "a PV domain of Xen" in (site.unknown or "")
    assert (decision.stops, decision.crash_stops) == (None, None)
    plain = reader.decide(guest())
    alone = KernelReader(replace(image, symbols=without)).decide(guest("Xen"))
    assert alone.stop_this_cpu == plain.stop_this_cpu  # native_machine_shutdown() comes first
    assert alone.crash_nmi_callback == plain.crash_nmi_callback


def test_what_a_module_of_hyper_v_registers_is_not_read(image):
    """linux 7.3.4 arch/x86/kernel/cpu/mshyperv.c:244 and :267, arch/x86/hyperv/hv_apic.c:302."""
    decision = KernelReader(image).decide(guest("Hyper-V"))
    for site in (decision.stop_this_cpu, decision.relocate_kernel):
        assert site.flushes is None
        assert "hv_setup_kexec_handler()" in (site.unknown or "")
        assert "hv_apic_init()" in (site.unknown or "")
    assert (decision.stops, decision.crash_stops) == (None, None)


@pytest.mark.parametrize(
    ("name", "function", "site"),
    [
        ("KVM", "kvm_crash_shutdown", "crash_nmi_callback"),
        ("Hyper-V", "hv_machine_shutdown", "stop_this_cpu"),
        ("Xen", "xen_hvm_shutdown", "stop_this_cpu"),
    ],
)
def test_a_hook_that_stops_nobody_counts_for_its_hypervisor_alone(image, name, function, site):
    reader = KernelReader(patched(image, address_of(image, function), RETURN))
    decision = getattr(reader.decide(guest(name)), site)
    assert decision.unknown in (
        f"{function}() shot nobody down",
        "machine_shutdown() interrupts no other CPU",
    )
    assert answers(reader.decide(guest())) == answers(KernelReader(image).decide(guest()))


def test_a_host_has_no_hypervisor_whatever_its_leaves_say(image):
    table = named(cpuid("Rome"), "Xen")
    assert hypervisor_of(LogicalCpu(0, table, {})) is None
    machine = RawMachine(table, table)
    reader = KernelReader(image)
    assert answers(reader.decide(machine)) == answers(
        reader.decide(RawMachine(cpuid("Rome"), cpuid("Rome")))
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), None),
        (("KVM",), "x86_hyper_kvm"),
        (("Hyper-V", "KVM"), "x86_hyper_kvm"),  # KVM with Hyper-V's enlightenments
        (("KVM", "Hyper-V"), "x86_hyper_kvm"),  # Hyper-V is looked for at the first base only
        (("Hyper-V", "Xen"), "x86_hyper_xen_hvm"),
        (("VMware",), "x86_hyper_vmware"),
    ],
)
def test_which_of_several_names_counts(names, expected):
    """``detect_hypervisor_vendor()``, arch/x86/kernel/cpu/hypervisor.c:64 (7.3.4)."""
    table = named(cpuid("Rome guest"), *names)
    assert table.read(1)[2] & HYPERVISOR
    assert hypervisor_of(LogicalCpu(0, table, {})) == expected


def test_none_of_debian_s_has_code_for_jailhouse(image):
    """So `SIGNATURES` has one that a kernel takes for no hypervisor that it knows."""
    assert "x86_hyper_jailhouse" not in image.symbols


def test_a_hook_that_is_not_a_plain_store_makes_the_guest_unknown(real_kernels):
    """``mov [rip + shutdown], imm`` becomes ``add``."""
    image = real_kernels["7"].image
    hook = address_of(image, "machine_ops") + CRASH_SHUTDOWN
    (store,) = (
        one
        for one in instructions(image, "kvm_guest_init")
        if one.mnemonic == "mov" and one.code[:3] == b"\x48\xc7\x05" and reaches(one, hook)
    )
    other = patched(image, store.address, b"\x48\x81\x05")
    with pytest.raises(DerivationError, match=r"kvm_guest_init\(\) does more with the hooks"):
        hook_stores(other, "x86_hyper_kvm")
    reader = KernelReader(other)
    assert "kvm_guest_init() does more with" in (
        reader.decide(guest("KVM")).stop_this_cpu.unknown or ""
    )
    assert None not in answers(reader.decide(guest()))


def reaches(instruction, address: int) -> bool:
    """RIP-relative, with a 32-bit constant behind the displacement."""
    displacement = int.from_bytes(instruction.code[3:7], "little", signed=True)
    return bool(instruction.address + len(instruction.code) + displacement == address)


def test_of_two_callbacks_that_halt_the_registered_one_counts(real_kernels):
    """CONFIG_MSHV_ROOT has a second (arch/x86/hyperv/hv_crash.c:283, linux 7.3.4)."""
    image = real_kernels["7"].image
    callback, cave = (address_of(image, name) for name in ("crash_nmi_callback", "panic"))
    symbols = image.symbols.with_added({"crash_nmi_callback": cave})
    jump = b"\xe9" + (cave - callback - 5).to_bytes(4, "little", signed=True)
    other = patched(patched(image, cave, b"\xfa\xf4\xeb\xfd"), callback, jump)
    one, two = (
        KernelReader(each).decide(guest())
        for each in (replace(image, symbols=symbols), replace(other, symbols=symbols))
    )
    assert one.crash_nmi_callback.flushes is False
    assert "did not reach its end: halted at crash_nmi_callback" in (
        two.crash_nmi_callback.unknown or ""
    )

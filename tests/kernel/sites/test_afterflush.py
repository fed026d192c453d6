# SPDX-License-Identifier: GPL-2.0-or-later
"""What a CPU stores after its last WBINVD, and which of these lines it leaves behind."""

from __future__ import annotations

import pytest

from staleline.kernel.boot.decision import Decision, Fate, RawMachine, SiteDecision
from staleline.kernel.emulator.layout import CONTROL_PAGES
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.emulator.notedstores import NotedStores, flushes_a_line
from staleline.kernel.image.bugtable import warning_addresses
from staleline.kernel.image.image import KernelImage
from staleline.kernel.sites.runner import KernelReader
from staleline.vocabulary import Through
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import find_guard, patched
from tests.kernel.plant import (
    CAVE,
    Bytes,
    fills_global,
    flushing_at_entry,
    planted_before_halt,
    planted_before_report,
    pushes,
    relative,
    stores_control_page,
    without_last_mask_store,
    zeroes_global,
    zeroes_per_cpu_byte,
)

ROME = RawMachine(cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, mem_encrypt=True)
#: With the report before the flush, in the mask of CPUs, and with a flag for the flush.
SERIES = ["5.10", "6.12", "6.18", "7-generic"]
#: Nobody but the stop path and the panic path uses them.
VARIABLE, PER_CPU = "panic_timeout", "cpu_info"


@pytest.fixture(scope="module", params=SERIES)
def image(request, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


@pytest.fixture(scope="module", params=SERIES[1:])
def masked(request, real_kernels) -> KernelImage:
    """A kernel in which a secondary reports itself after its flush, in ``cpus_stop_mask``."""
    return real_kernels[request.param].image


def decide(image: KernelImage) -> Decision:
    return KernelReader(image).decide(ROME)


def left(decision: SiteDecision) -> set[tuple[str, Through]]:
    """Names of what is left behind, without offsets."""
    return {(one.line.split("+")[0], one.through) for one in decision.left_behind}


def fates(decision: SiteDecision) -> set[tuple[str, Fate]]:
    return {(one.line, one.fate) for one in decision.stores}


def address(image: KernelImage, name: str) -> int:
    found = image.symbols.address(name)
    assert found is not None
    return found


def test_nothing_is_left_behind_by_the_kernels_of_debian(image: KernelImage) -> None:
    """linux 7.3.4 arch/x86/kernel/process.c:844-865: the mask alone, and ``native_halt()``."""
    decision = decide(image)
    assert decision.stop_this_cpu.flushes
    assert decision.relocate_kernel.flushes
    assert not decision.stop_this_cpu.left_behind
    assert not decision.relocate_kernel.left_behind


def test_the_line_of_the_stop_mask_is_taken_back(masked: KernelImage) -> None:
    """linux 7.3.4 arch/x86/kernel/process.c:850 and smp.c:238."""
    assert fates(decide(masked).stop_this_cpu) == {("cpus_stop_mask", Fate.TAKEN_BACK)}


def test_a_report_before_the_flush_leaves_no_store_after_it(real_kernels) -> None:
    """linux 5.10.262 arch/x86/kernel/process.c stop_this_cpu() stores nothing behind WBINVD."""
    assert decide(real_kernels["5.10"].image).stop_this_cpu.stores == ()


def test_without_the_last_store_the_mask_is_left_behind(masked: KernelImage) -> None:
    decision = decide(without_last_mask_store(masked)).stop_this_cpu
    assert decision.flushes
    assert left(decision) == {("cpus_stop_mask", Through.OWN)}


def test_the_call_of_swap_pages_stores_to_the_control_page(image: KernelImage) -> None:
    """linux 7.3.4 arch/x86/kernel/relocate_kernel_64.S: its stack lies in the control page."""
    decision = decide(image)
    for site in (decision.relocate_kernel, decision.crash_relocate_kernel):
        assert fates(site) == {("the control page", Fate.JUMPS_ALONG)}
        assert {one.through for one in site.stores} == {Through.PLAIN}


def test_what_an_snp_host_stores_after_its_flush_in_a_crash_lies_elsewhere(real_kernels) -> None:
    """linux 7.3.4 arch/x86/kernel/crash.c:66 kdump_sev_callback() is not the last thing done."""
    milan = RawMachine(
        cpuid("Milan"),
        cpuid("Milan"),
        {SYSCFG: MEM_ENCRYPT_ENABLED | 1 << 24},
        mem_encrypt=True,
        snp_host=True,
    )
    reader = KernelReader(real_kernels["7-generic"].image)
    found = reader.decide(milan).crash_nmi_callback
    assert found.flushes
    assert ("waiting_for_crash_ipi", Fate.OUTSIDE_RESERVATION) in fates(found)
    assert not found.left_behind


def behind_the_flush(image: KernelImage) -> dict[str, tuple[Bytes, tuple[str, Through]]]:
    """By what it stores to: the code, and what is to be found."""
    control = MachineMemory(image).direct(CONTROL_PAGES.start + 0x1800)
    return {
        "variable": (zeroes_global(address(image, VARIABLE)), (VARIABLE, Through.OWN)),
        "per-CPU": (
            zeroes_per_cpu_byte(address(image, PER_CPU)),
            (f"per-CPU {PER_CPU}", Through.OWN),
        ),
        "stack": (pushes, ("the stack of CPU 1", Through.OWN)),
        "decrypted": (stores_control_page(control), ("the control page", Through.PLAIN)),
    }


@pytest.mark.parametrize("place", ["variable", "per-CPU", "stack", "decrypted"])
def test_a_store_before_the_halt_is_left_behind(image: KernelImage, place: str) -> None:
    does, expected = behind_the_flush(image)[place]
    decision = decide(planted_before_halt(image, does)).stop_this_cpu
    assert decision.flushes
    assert left(decision) == {expected}
    assert {one.code.split("+")[0] for one in decision.left_behind} == {"ksys_unshare"}


@pytest.mark.parametrize("place", ["variable", "per-CPU", "stack", "decrypted"])
def test_a_store_before_the_report_is_left_behind(masked: KernelImage, place: str) -> None:
    does, expected = behind_the_flush(masked)[place]
    decision = decide(planted_before_report(masked, does)).stop_this_cpu
    assert decision.flushes
    assert left(decision) == {expected}


def test_a_memset_is_one_store_of_all_its_lines(image: KernelImage) -> None:
    where = address(image, "__log_buf" if "__log_buf" in image.symbols else VARIABLE)
    decision = decide(planted_before_halt(image, fills_global(where, 2048))).stop_this_cpu
    (store,) = decision.left_behind
    assert (store.address, store.size) == (where, 2048)


def test_a_memset_that_is_stopped_in_between_is_one_store() -> None:
    """Its byte of then is told twice: before the run is stopped, and when it goes on."""
    notes = NotedStores()
    for at in (0, 1, 2, 2, 3):
        notes.note(0x400, 0x1000 + at, 1, is_write=True)
    notes.note(0x402, 0x1003, 1, is_write=True)
    assert [(one.code, one.address, one.size) for one in notes.accesses] == [
        (0x400, 0x1000, 4),
        (0x402, 0x1003, 1),
    ]


def test_a_store_to_the_mask_behind_the_report_may_come_too_late(masked: KernelImage) -> None:
    """The jumping CPU may have stored to it for the last time."""
    does = zeroes_global(address(masked, "cpus_stop_mask") + 8)
    assert left(decide(planted_before_halt(masked, does)).stop_this_cpu) == {
        ("cpus_stop_mask", Through.OWN)
    }


def test_a_store_to_the_mask_before_the_report_is_taken_back(masked: KernelImage) -> None:
    does = zeroes_global(address(masked, "cpus_stop_mask"))
    assert not decide(planted_before_report(masked, does)).stop_this_cpu.left_behind


def test_registers_of_the_apic_are_no_memory(masked: KernelImage) -> None:
    """APIC_BASE, arch/x86/include/asm/fixmap.h FIX_APIC_BASE: mapped uncached."""
    register = 0xFFFF_FFFF_FF5F_D000 + 0x80
    does = stores_control_page(register)
    assert decide(planted_before_halt(masked, does)).stop_this_cpu.answer == (True, False)


def first_warning(image: KernelImage, address: int) -> tuple[int, bytes]:
    """The first word in the table of BUGs that is of a WARN, and how it is of this address."""
    warnings, content = warning_addresses(image), image.section_bytes("__bug_table")
    start = image.sections["__bug_table"].virtual_address
    for at in range(start, start + len(content), 4):
        offset = at - start
        distance = int.from_bytes(content[offset : offset + 4], "little", signed=True)
        if at + distance in warnings:
            return at, relative(at, address)
    raise AssertionError("no WARN")


def test_a_warning_behind_the_flush_is_not_understood(image: KernelImage) -> None:
    """The exception stores its frame, and the warning is logged (linux 7.3.4 traps.c:388)."""
    cave = address(image, CAVE)
    mutant = planted_before_halt(image, lambda _: b"\x0f\x0b")
    mutant = patched(mutant, *first_warning(image, cave))
    assert cave in warning_addresses(mutant)
    decision = decide(mutant).stop_this_cpu
    assert decision.flushes is None
    assert "unexpected ud2" in str(decision.unknown)


def test_a_cpu_that_halts_with_interrupts_enabled_has_not_stopped(image: KernelImage) -> None:
    """STI in front of the HLT: the next interrupt is taken, and stores."""
    decision = decide(planted_before_halt(image, lambda _: b"\xfb")).stop_this_cpu
    assert decision.flushes is None
    assert str(decision.unknown).endswith(", with interrupts enabled")


@pytest.mark.parametrize("function", ["stop_this_cpu", "machine_kexec"])
def test_a_flush_at_the_entry_leaves_behind_what_comes_after_it(
    image: KernelImage, function: str
) -> None:
    """Its stack at least."""
    flush = "identity_mapped" if function == "machine_kexec" else function
    late = patched(image, *find_guard(image, flush).no_flush)
    decision = decide(flushing_at_entry(late, function))
    site = decision.relocate_kernel if function == "machine_kexec" else decision.stop_this_cpu
    cpu = 0 if function == "machine_kexec" else 1
    assert site.flushes
    assert (f"the stack of CPU {cpu}", Through.OWN) in left(site)


@pytest.mark.parametrize("handler", ["__sysvec_reboot", "smp_stop_nmi_callback"])
def test_a_flush_in_one_of_two_handlers_is_not_alike(image: KernelImage, handler: str) -> None:
    """A slow CPU is told by the other one."""
    late = patched(image, *find_guard(image, "stop_this_cpu").no_flush)
    site = decide(flushing_at_entry(late, handler)).stop_this_cpu
    assert site.flushes is None
    assert "told by an NMI does not stop alike: it stops, but flushes otherwise" in str(
        site.unknown
    )


def test_a_second_flush_takes_away_what_comes_before_it(image: KernelImage) -> None:
    decision = decide(flushing_at_entry(flushing_at_entry(image, "stop_this_cpu"), "machine_kexec"))
    assert decision.stop_this_cpu.flushes
    assert not decision.stop_this_cpu.left_behind
    assert not decision.relocate_kernel.left_behind


def test_a_site_without_a_flush_has_no_stores_after_one(image: KernelImage) -> None:
    mutant = patched(image, *find_guard(image, "stop_this_cpu").no_flush)
    decision = decide(planted_before_halt(mutant, pushes)).stop_this_cpu
    assert decision == SiteDecision(flushes=False)


def test_a_flush_of_one_line_after_the_store_is_not_understood(image: KernelImage) -> None:
    """The line may be clean again; CLFLUSH [RSP]."""
    decision = decide(planted_before_halt(image, lambda _: b"\x50\x58\x0f\xae\x3c\x24"))
    assert decision.stop_this_cpu.flushes is None
    assert "a flush of a single line" in str(decision.stop_this_cpu.unknown)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("0fae38", True),  # clflush [rax]
        ("660fae38", True),  # clflushopt [rax]
        ("660fae30", True),  # clwb [rax]
        ("66410fae3c24", True),  # clflushopt [r12]
        ("0faef8", False),  # sfence
        ("0fae30", False),  # xsaveopt [rax]
        ("0faef0", False),  # mfence
        ("0fae", False),
    ],
)
def test_instructions_that_flush_a_line(code: str, expected: bool) -> None:
    """SDM vol. 2, opcode map, group 15."""
    assert flushes_a_line(bytes.fromhex(code)) is expected

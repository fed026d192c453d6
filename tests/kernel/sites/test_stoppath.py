# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the way of a kexec, and of a crash, lead to the sites: real kernels with a break in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from staleline.errors import KernelImageError
from staleline.kernel.boot.decision import Decision, RawMachine, SiteDecision
from staleline.kernel.emulator.layout import APIC
from staleline.kernel.emulator.localapic import INTERRUPT_COMMAND, REBOOT_VECTOR
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.image.image import KernelImage
from staleline.kernel.image.symbols import SymbolTable
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import Instruction, instructions, patched
from tests.kernel.places import address_of

ROME = RawMachine(cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, True)
HALT = b"\xfa\xf4\xeb\xfd"  # cli; hlt; once more
RETURN = b"\xc3"
SERIES = ["5.10", "6.12", "6.18", "7"]


@dataclass(frozen=True)
class Kernel:
    series: str
    image: KernelImage

    def decide_with(self, function: str, code: bytes) -> Decision:
        """With other code at the start of a function."""
        address = address_of(self.image, function)
        return KernelReader(patched(self.image, address, code)).decide(ROME)


@pytest.fixture(scope="module", params=SERIES)
def kernel(request, real_kernels) -> Kernel:
    return Kernel(request.param, real_kernels[request.param].image)


def test_the_way_of_every_kernel_leads_to_its_sites(real_kernel):
    decision = KernelReader(real_kernel.image).decide(ROME)
    assert decision.stop_this_cpu.flushes is True
    assert decision.relocate_kernel.flushes is True
    assert decision.crash_nmi_callback.flushes is False
    assert decision.crash_relocate_kernel.flushes is True


@pytest.mark.parametrize(
    "function", ["machine_shutdown", "native_machine_shutdown", "native_stop_other_cpus"]
)
def test_whoever_returns_at_once_stops_nobody(kernel, function):
    """arch/x86/kernel/reboot.c:778,707 and smp.c:147 (7.3.4)."""
    decision = kernel.decide_with(function, RETURN)
    assert decision.stop_this_cpu.unknown == "machine_shutdown() interrupts no other CPU"
    assert decision.reported_stopped is None
    assert decision.relocate_kernel.flushes is True
    assert decision.crash_nmi_callback.flushes is False


def test_an_interrupt_that_is_not_sent_is_waited_for(kernel):
    """apic_send_IPI_allbutself(), arch/x86/kernel/apic/ipi.c:56 (7.3.4), is in both ways."""
    decision = kernel.decide_with("apic_send_IPI_allbutself", RETURN)
    assert "machine_shutdown() did not return: " in decision.stop_this_cpu.unknown
    assert "machine_crash_shutdown() did not return: " in decision.crash_nmi_callback.unknown


def ipi_sent_otherwise(kernel: Kernel, code: bytes) -> Decision:
    """With this code instead of what sends the interrupt to all others."""
    return kernel.decide_with("apic_send_IPI_allbutself", code)


def test_an_interrupt_that_a_cpu_sends_to_itself_stops_nobody(kernel):
    """SDM volume 3, 12.6.1: destination shorthand 01, self."""
    store = b"\x48\xb8" + (APIC.start + INTERRUPT_COMMAND).to_bytes(8, "little") + b"\xc7\x00"
    for_self, for_others = (
        ipi_sent_otherwise(kernel, store + command.to_bytes(4, "little") + RETURN)
        for command in (1 << 18 | REBOOT_VECTOR, 3 << 18 | REBOOT_VECTOR)
    )
    assert for_others.stop_this_cpu.flushes is True
    assert "did not return: " in str(for_self.stop_this_cpu.unknown)
    assert for_self.reported_stopped is None


def test_a_shutdown_that_does_not_wait_for_the_others(kernel):
    """native_stop_other_cpus() goes to its end once it has sent the interrupt."""
    code = list(instructions(kernel.image, "native_stop_other_cpus"))
    sends = address_of(kernel.image, "apic_send_IPI_allbutself")
    after = next(
        code[at + 1].address
        for at, one in enumerate(code)
        if one.mnemonic == "call" and one.operands == hex(sends)
    )
    ends = without_wait(kernel, code)
    jump = b"\xe9" + (ends - after - 5).to_bytes(4, "little", signed=True)
    decision = KernelReader(patched(kernel.image, after, jump)).decide(ROME)
    reason = "machine_shutdown() does not wait until the other CPUs have stopped"
    assert decision.stop_this_cpu.unknown == reason
    assert decision.reported_stopped is None
    assert decision.relocate_kernel.flushes is True


def without_wait(kernel: Kernel, code: list[Instruction]) -> int:
    """Where it disables interrupts and its APIC, once the wait is over (smp.c:225, 7.3.4)."""
    disables = hex(address_of(kernel.image, "disable_local_APIC"))
    at = next(i for i, one in enumerate(code) if (one.mnemonic, one.operands) == ("call", disables))
    return code[at].address


@pytest.mark.parametrize("function", ["asm_sysvec_reboot", "sysvec_reboot", "__sysvec_reboot"])
@pytest.mark.parametrize(("code", "what"), [(HALT, "halted at "), (RETURN, "returned at ")])
def test_a_handler_that_does_not_stop_the_cpu(kernel, function, code, what):
    decision = kernel.decide_with(function, code)
    assert f"did not reach its end: {what}" in decision.stop_this_cpu.unknown
    assert decision.reported_stopped is None
    assert decision.relocate_kernel.flushes is True


@pytest.mark.parametrize(("code", "what"), [(HALT, "halted at "), (RETURN, "returned at ")])
def test_a_cpu_that_is_told_to_stop_by_an_nmi_and_does_not(kernel, code, what):
    """smp_stop_nmi_callback(), arch/x86/kernel/smp.c:122 (7.3.4)."""
    decision = kernel.decide_with("smp_stop_nmi_callback", code)
    reason = decision.stop_this_cpu.unknown
    assert "a CPU that has to be told by an NMI does not stop alike" in reason
    assert what in reason


def test_a_cpu_that_flushes_only_when_told_by_an_nmi(kernel):
    """WBINVD in the one way, and not in the other, is no rule."""
    machine = RawMachine(cpuid("K8"), cpuid("K8"))
    callback = address_of(kernel.image, "smp_stop_nmi_callback")
    stop = address_of(kernel.image, "stop_this_cpu")
    jump = b"\x0f\x09\xe9" + (stop - callback - 7).to_bytes(4, "little", signed=True)
    decision = KernelReader(patched(kernel.image, callback, jump)).decide(machine)
    assert "it stops, but flushes otherwise" in (decision.stop_this_cpu.unknown or "")


def by_nmi(image: KernelImage, *code: bytes) -> KernelImage:
    """The callback executes this and then the HLT of ``stop_this_cpu()``."""
    start = address_of(image, "smp_stop_nmi_callback")
    (halt, *_) = (one.address for one in instructions(image, "stop_this_cpu") if is_halt(one))
    body = b"".join(code)
    jump = b"\xe9" + (halt - start - len(body) - 5).to_bytes(4, "little", signed=True)
    return patched(image, start, body + jump)


def is_halt(instruction) -> bool:
    return str(instruction.mnemonic) == "hlt"


def stores_zero(image: KernelImage, name: str, before: int) -> bytes:
    """``movl $0, name(%rip)`` so many bytes behind the start of the callback."""
    start = address_of(image, "smp_stop_nmi_callback") + before
    distance = address_of(image, name) - start - 10
    return b"\xc7\x05" + distance.to_bytes(4, "little", signed=True) + bytes(4)


def reports_itself(image: KernelImage, before: int) -> bytes:
    """``andl $~2, cpus_stop_mask(%rip)`` of CPU 1, and a NOP: as long as `stores_zero`."""
    start = address_of(image, "smp_stop_nmi_callback") + before
    distance = address_of(image, "cpus_stop_mask") - start - 7
    return b"\x83\x25" + distance.to_bytes(4, "little", signed=True) + b"\xfd\x0f\x1f\x00"


def test_a_cpu_that_reports_itself_only_when_not_told_by_an_nmi(kernel):
    machine = RawMachine(cpuid("K8"), cpuid("K8"))
    decision = KernelReader(by_nmi(kernel.image)).decide(machine)
    assert "it stops, but does not report itself alike" in (decision.stop_this_cpu.unknown or "")


@pytest.mark.parametrize("series", ["6.12", "7"])
def test_a_cpu_that_is_told_by_an_nmi_and_reports_itself_before_its_flush(real_kernels, series):
    """Before commit 1f5e7eb7868e (6.5) all did."""
    image = real_kernels[series].image
    report = reports_itself(image, 0)
    decision = KernelReader(by_nmi(image, report, b"\x0f\x09")).decide(ROME)
    assert "it stops, but reports itself in another order" in (decision.stop_this_cpu.unknown or "")
    assert decision.relocate_kernel.flushes is True


@pytest.mark.parametrize("series", ["6.12", "7"])
def test_a_cpu_that_is_told_by_an_nmi_and_leaves_more_behind(real_kernels, series):
    image = real_kernels[series].image
    code = b"\x0f\x09", stores_zero(image, "panic_timeout", 2)
    report = reports_itself(image, 12)
    decision = KernelReader(by_nmi(image, *code, report)).decide(ROME)
    reason = decision.stop_this_cpu.unknown
    assert "it stops, but leaves other lines behind: panic_timeout" in (reason or "")
    alike = KernelReader(by_nmi(image, code[0], reports_itself(image, 2)))
    assert alike.decide(ROME).stop_this_cpu == KernelReader(image).decide(ROME).stop_this_cpu


@pytest.mark.parametrize("function", ["machine_crash_shutdown", "nmi_shootdown_cpus"])
def test_whoever_returns_at_once_shoots_nobody_down(kernel, function):
    decision = kernel.decide_with(function, RETURN)
    expected = "native_machine_crash_shutdown() shot nobody down"
    assert decision.crash_nmi_callback.unknown == expected
    assert decision.stop_this_cpu.flushes is True


@pytest.mark.parametrize("function", ["exc_nmi", "default_do_nmi"])
@pytest.mark.parametrize(("code", "what"), [(HALT, "halted at "), (RETURN, "returned at ")])
def test_an_nmi_that_does_not_lead_to_the_callback(kernel, function, code, what):
    """arch/x86/kernel/nmi.c, 5.10 to 7.3. A kexec sends one too, to CPUs that are slow to stop."""
    decision = kernel.decide_with(function, code)
    assert f"did not reach its end: {what}" in decision.crash_nmi_callback.unknown
    reason = (
        "a CPU that has to be told by an NMI does not stop alike: the run did not reach its end"
    )
    assert (decision.stop_this_cpu.unknown or "").startswith(f"{reason}: {what}")


def test_an_nmi_entry_that_does_not_call_the_handler(kernel):
    entry = address_of(kernel.image, "asm_exc_nmi")
    image = patched(kernel.image, entry, b"\xcc" * 0x200)
    decision = KernelReader(image).decide(ROME)
    reason = "the run did not reach its end: int3 at asm_exc_nmi+0x0"
    assert decision.crash_nmi_callback.unknown == reason
    assert (decision.stop_this_cpu.unknown or "").endswith(reason)


@pytest.mark.parametrize("code", [HALT, b"\x0f\x09" + HALT])
def test_a_gate_that_is_never_set_up(kernel, code):
    decision = kernel.decide_with("idt_setup_apic_and_irq_gates", code)
    reason = decision.stop_this_cpu.unknown
    assert reason == "where interrupt 0xf8 leads could not be established"


def decoy(image: KernelImage, name: str, code: bytes) -> KernelImage:
    """The image with a second symbol of that name, which nothing refers to."""
    cave = address_of(image, "panic")
    image = patched(image, cave, code)
    return replace(image, symbols=image.symbols.with_added({name: cave}))


@pytest.mark.parametrize("name", ["stop_this_cpu", "crash_nmi_callback", "sysvec_reboot"])
def test_of_two_of_one_name_the_one_that_is_executed_counts(kernel, name):
    """It is found as the kernel finds it, and not by its name."""
    image = decoy(kernel.image, name, b"\x0f\x09" + HALT)
    before, after = (KernelReader(each).decide(ROME) for each in (kernel.image, image))
    assert after.stop_this_cpu == before.stop_this_cpu
    assert after.crash_nmi_callback == before.crash_nmi_callback
    assert after.relocate_kernel == before.relocate_kernel


@pytest.mark.parametrize("name", ["machine_kexec", "machine_shutdown"])
def test_of_two_of_one_name_that_is_asked_for_neither_counts(kernel, name):
    image = decoy(kernel.image, name, RETURN)
    decision = KernelReader(image).decide(ROME)
    one, other = sorted(image.symbols.addresses(name))
    reason = f"ambiguous: two symbols named {name} at {one:#x} and {other:#x}"
    assert decision.stop_this_cpu.unknown == reason


def test_a_decoy_of_any_name_changes_no_answer_but_to_unknown(real_kernels):
    """Whatever name a reading looks up: with a second one it is the same, or says why not."""
    image = real_kernels["7"].image
    asked = names_asked_for(image)
    assert len(asked) > 20
    before = KernelReader(image).decide(ROME)
    for name in asked:
        for site, decided in sites(KernelReader(decoy(image, name, RETURN)).decide(ROME)).items():
            ambiguous = f"ambiguous: two symbols named {name} at " in (decided.unknown or "")
            assert ambiguous or decided == sites(before)[site], (name, site)


def names_asked_for(image: KernelImage) -> list[str]:
    """Every name of which a reading asks the address, and that the image has."""
    asked: set[str] = set()

    class Noting(SymbolTable):
        def address(self, name):
            asked.add(name)
            return super().address(name)

    table = image.symbols
    noting = Noting(table.sorted_addresses, table._names)
    KernelReader(replace(image, symbols=noting)).decide(ROME)
    # Where direct-mapped memory lies is asked for before there is a decision.
    return sorted(name for name in asked - {"page_offset_base"} if name in table)


def sites(decision: Decision) -> dict[str, SiteDecision]:
    return {
        "stop": decision.stop_this_cpu,
        "jump": decision.relocate_kernel,
        "crash": decision.crash_nmi_callback,
        "crash jump": decision.crash_relocate_kernel,
    }


def test_two_places_of_the_direct_map_are_refused(real_kernels):
    image = decoy(real_kernels["7"].image, "page_offset_base", RETURN)
    with pytest.raises(KernelImageError, match="ambiguous: two symbols named page_offset_base"):
        MachineMemory(image)

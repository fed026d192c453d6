# SPDX-License-Identifier: GPL-2.0-or-later
"""Real kernels in which something undoes, between boot and the jump, what a flush depends on.

It writes to a variable that a site asks, or wakes CPUs that have stopped.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from staleline.kernel.boot.decision import RawMachine
from staleline.kernel.boot.hookwriters import FLUSH_INPUTS, unknown_input_writers
from staleline.kernel.emulator.layout import APIC
from staleline.kernel.emulator.localapic import INTERRUPT_COMMAND, INTERRUPT_COMMAND_MSR
from staleline.kernel.image.image import KernelImage
from staleline.kernel.inventory.codescan import CodeArea
from staleline.kernel.inventory.pointers import Pointers
from staleline.kernel.inventory.tablewrites import TableWrite, table_writes
from staleline.kernel.sites.runner import KernelReader
from tests.kernel.eras import ERAS
from tests.kernel.machines import MEM_ENCRYPT_ENABLED, SYSCFG, cpuid
from tests.kernel.mutate import patched
from tests.kernel.places import address_of
from tests.kernel.plant import CAVE, Bytes, global_bit, planted, planted_call, relative

ROME = RawMachine(cpuid("Rome"), cpuid("Rome"), {SYSCFG: MEM_ENCRYPT_ENABLED}, True)
RETURN = b"\xc3"
#: Is called by native_machine_shutdown() when the others have stopped: arch/x86/kernel/reboot.c.
BETWEEN = "lapic_shutdown"


@pytest.fixture(scope="module", params=ERAS)
def image(request: pytest.FixtureRequest, real_kernels) -> KernelImage:
    return real_kernels[request.param].image


def per_cpu(name: str) -> bytes:
    """The prefix of what addresses it."""
    return b"\x65" if name == "cache_state_incoherent" else b""


def in_cave(image: KernelImage, code: Callable[[int], bytes]) -> KernelImage:
    """A function that nothing here calls, and that does something."""
    cave = address_of(image, CAVE)
    return patched(image, cave, code(cave) + RETURN)


# -- what a flush depends on ------------------------------------------------------------------


def inputs_of(image: KernelImage) -> dict[str, int]:
    """Those that the image has, and where."""
    return {name: address_of(image, name) for name in FLUSH_INPUTS if name in image.symbols}


def stores_to_all(image: KernelImage, constant: int) -> KernelImage:
    """``movb $constant`` to each."""

    def code(at: int) -> bytes:
        stores = b""
        for name, address in inputs_of(image).items():
            store = per_cpu(name) + b"\xc6\x05"
            end = at + len(stores) + len(store) + 5
            stores += store + relative(end, address) + bytes([constant])
        return stores

    return in_cave(image, code)


def test_a_function_that_nobody_knows_clears_them(image):
    mutant = stores_to_all(image, 0)
    writers = unknown_input_writers(mutant)
    assert writers == {
        name: f"{CAVE}() may write to {name}, and when it does is not known"
        for name in inputs_of(image)
    }
    decision = KernelReader(mutant).decide(ROME)
    assert set((decision.relocate_kernel.unknown or "").split("; ")) == set(writers.values())
    assert decision.crash_relocate_kernel.unknown == decision.relocate_kernel.unknown
    # By this one it decides too, and by no other: arch/x86/kernel/process.c, since 6.18.
    assert decision.stop_this_cpu.unknown == writers.get("cache_state_incoherent")


def test_one_that_sets_them_only_makes_a_cpu_flush_by_one(image):
    """virt/vmx/tdx/tdx.c sets it where a CPU makes a SEAMCALL; a mask of 1 encrypts nothing."""
    others = inputs_of(image).keys() - {"cache_state_incoherent"}
    assert unknown_input_writers(stores_to_all(image, 1)).keys() == others


def test_nobody_else_writes_there_in_a_kernel_as_released(image):
    assert inputs_of(image)
    assert unknown_input_writers(image) == {}


def by_rip(code: str) -> Callable[[int], Bytes]:
    """An instruction that ends with the displacement."""
    return lambda address: lambda at: _by_rip(bytes.fromhex(code), at, address)


def _by_rip(code: bytes, at: int, address: int) -> bytes:
    return code + relative(at + len(code) + 4, address)


def by_rip_before(code: str, immediate: str) -> Callable[[int], Bytes]:
    behind = bytes.fromhex(immediate)

    def store(address: int) -> Bytes:
        return lambda at: _by_rip(bytes.fromhex(code), at, address - len(behind)) + behind

    return store


STORES = {
    "and": by_rip("2105"),
    "sub": by_rip("2905"),
    "xchg": by_rip("8705"),
    "setcc": by_rip("0f9405"),
    "cmpxchg": by_rip("f00fb10d"),
    "xadd": by_rip("0fc105"),
    "btr": by_rip_before("480fba35", "2f"),
    "movups": by_rip("0f1105"),
    # Of the two-byte map and others, whose numbers are those of reading ones of the first.
    "movlps": by_rip("0f1305"),
    "movntps": by_rip("0f2b05"),
    "vmovlps": by_rip("c5f81305"),
    "vextracti128": by_rip_before("c4e37d3905", "00"),
}
READS = {
    "mov": by_rip("488b05"),
    "movzx": by_rip("0fb605"),
    "cmp": by_rip_before("803d", "00"),
    "test": by_rip_before("f605", "01"),
    "adc": by_rip("1305"),
    "sub": by_rip("2b05"),
}


def written_by(image: KernelImage, code: Bytes, address: int) -> tuple[TableWrite, ...]:
    cave = address_of(image, CAVE)
    # Behind what an instruction may begin with, and not at once.
    stored = b"\x90" * 16 + code(cave + 16) + RETURN
    area = CodeArea(cave, stored)
    cell = Pointers(address, (address,), 1)
    return table_writes(patched(image, cave, stored), [cell], areas=[area])


@pytest.mark.parametrize("form", STORES)
def test_a_store_of_any_form_is_one(image, form):
    for address in inputs_of(image).values():
        assert written_by(image, STORES[form](address), address) == (TableWrite(CAVE, address),)


@pytest.mark.parametrize("form", READS)
def test_what_only_reads_is_none(image, form):
    for address in inputs_of(image).values():
        assert written_by(image, READS[form](address), address) == ()


# -- CPUs that have stopped -------------------------------------------------------------------

#: INIT for all but itself (SDM volume 3, 12.6.1).
INIT = 0x000C_0500


def by_memory(_: KernelImage) -> Bytes:
    register = (APIC.start + INTERRUPT_COMMAND) & 0xFFFF_FFFF
    store = b"\xc7\x04\x25" + register.to_bytes(4, "little") + INIT.to_bytes(4, "little")
    return lambda _: store


def by_msr(_: KernelImage) -> Bytes:
    number = b"\xb9" + INTERRUPT_COMMAND_MSR.to_bytes(4, "little")
    command = b"\xb8" + INIT.to_bytes(4, "little") + b"\x31\xd2"
    # push %rax, %rcx, %rdx; ...; wrmsr; and back
    return lambda _: b"\x50\x51\x52" + command + number + b"\x0f\x30" + b"\x5a\x59\x58"


def by_static_call(name: str) -> Callable[[KernelImage], Bytes]:
    """arch/x86/kernel/apic/init.c, since 6.6: of the driver, with 2 as its first arguments."""

    def wakes(image: KernelImage) -> Bytes:
        if (trampoline := image.symbols.address(f"__SCT__apic_call_{name}")) is None:
            pytest.skip("the driver is called through its pointer")
        # push %rdi, %rsi; mov $2, %edi and %esi
        before = b"\x57\x56\xbf\x02\0\0\0\xbe\x02\0\0\0"
        return lambda at: before + b"\xe8" + relative(at + 17, trampoline) + b"\x5e\x5f"

    return wakes


WAKING = {
    "memory": by_memory,
    "MSR": by_msr,
    "static call for all": by_static_call("send_IPI_mask"),
    "static call for one": by_static_call("send_IPI"),
    "static call of INIT": by_static_call("wakeup_secondary_cpu_64"),
}
WOKEN = "the jumping CPU interrupts others at "


@pytest.mark.parametrize("way", WAKING)
@pytest.mark.parametrize("function", [BETWEEN, "machine_kexec"])
def test_cpus_that_have_stopped_are_woken(image, way, function):
    decision = KernelReader(planted_call(image, function, WAKING[way](image))).decide(ROME)
    reasons = {decision.relocate_kernel.unknown, decision.crash_relocate_kernel.unknown}
    assert all(reason is not None and reason.startswith(WOKEN) for reason in reasons)


@pytest.mark.parametrize("way", WAKING)
def test_they_are_woken_on_a_condition(image, way):
    question = global_bit(address_of(image, "panic_timeout"), 7)
    decision = KernelReader(planted(image, BETWEEN, question, WAKING[way](image))).decide(ROME)
    assert decision.relocate_kernel.unknown == (
        f"{CAVE}(), on the way to the jump, may write to the local APIC's interrupt command "
        "register, and when it does is not known"
    )


def test_a_cpu_that_interrupts_itself_wakes_nobody(image):
    register = (APIC.start + INTERRUPT_COMMAND) & 0xFFFF_FFFF
    to_itself = (1 << 18 | 0xF6).to_bytes(4, "little")  # any vector
    store = b"\xc7\x04\x25" + register.to_bytes(4, "little") + to_itself
    decision = KernelReader(planted_call(image, "machine_kexec", lambda _: store)).decide(ROME)
    assert decision.relocate_kernel.flushes is True

# SPDX-License-Identifier: GPL-2.0-or-later
"""What the code for a hypervisor puts into ``machine_ops`` and ``smp_ops`` at boot.

``init_hypervisor_platform()`` finds out which hypervisor the kernel runs under and calls that
one's ``init_platform()``, later ``guest_late_init()`` (linux 7.3.4
arch/x86/kernel/cpu/hypervisor.c). Of these hooks only those are looked at by which a kernel
stops: Hyper-V's guests shut down through ``hv_machine_shutdown()`` (mshyperv.c:682), KVM's crash
through ``kvm_crash_shutdown()`` (kvm.c:902), Xen's hand over to Xen (enlighten_hvm.c:233).

The functions themselves call hypervisors and allocate memory, so they are not run: their stores
to the hooks are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import capstone  # type: ignore[import-untyped]
from capstone import x86 as cx

from staleline.hardware import HYPERVISOR_LEAF, HYPERVISOR_PRESENT
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.memory import MachineMemory
from staleline.kernel.image.symbols import required_address
from staleline.kernel.inventory.functioncode import function_code, leads_to, operand_address

if TYPE_CHECKING:
    from staleline.kernel.emulator.traps import LogicalCpu
    from staleline.kernel.image.image import KernelImage

__all__ = ["HookStore", "hook_stores", "hypervisor_of", "put_hooks"]

#: The same steps as ``cpuid_base_hypervisor()`` (asm/cpuid/api.h, 7.3.4; asm/processor.h, 5.10).
_BASES: Final = range(HYPERVISOR_LEAF, 0x4001_0000, 0x100)
#: EBX, ECX, EDX of the base leaf -> the kernel's ``struct hypervisor_x86``; Hyper-V and VMware
#: are looked for at the first base only. PV domains of Xen are taken for HVM ones: neither
#: kind's shutdown returns without Xen.
_AT_ANY_BASE: Final = {
    b"KVMKVMKVM\0\0\0": "x86_hyper_kvm",
    b"XenVMMXenVMM": "x86_hyper_xen_hvm",
    b"Jailhouse\0\0\0": "x86_hyper_jailhouse",
    b"ACRNACRNACRN": "x86_hyper_acrn",
    b"bhyve bhyve ": "x86_hyper_bhyve",
}
_AT_FIRST_BASE: Final = {
    **_AT_ANY_BASE,
    b"VMwareVMware": "x86_hyper_vmware",
    b"Microsoft Hv": "x86_hyper_ms_hyperv",
}
#: Name, ``detect()`` and type come first in ``struct hypervisor_x86``; behind them are pointers
#: to functions: asm/hypervisor.h, 5.10 (12 words) to 7.3 (14).
_FIRST_FUNCTION: Final = 3
_LAST_WORD: Final = 14
_HOOKS: Final = ("machine_ops", "smp_ops")


@dataclass(frozen=True, slots=True)
class HookStore:
    """One store of a function's address.

    Attributes:
        slot: Address of the pointer.
        function: What is put there.
        by: The function that does so.
    """

    slot: int
    function: int
    by: str


_READ: WeakKeyDictionary[MachineMemory, dict[str, tuple[HookStore, ...]]] = WeakKeyDictionary()


def put_hooks(image: KernelImage, memory: MachineMemory, cpu: LogicalCpu) -> None:
    """Leave memory as the code for the hypervisor does that a CPU runs under.

    Raises:
        DerivationError: That code does something else with the hooks than to store an address.
    """
    hypervisor = hypervisor_of(cpu)
    if hypervisor is None or hypervisor not in image.symbols:
        return
    read = _READ.setdefault(memory, {})
    if hypervisor not in read:
        read[hypervisor] = hook_stores(image, hypervisor)
    # All of them, also one behind a condition: a root partition of Hyper-V keeps
    # native_machine_crash_shutdown(), but does not jump by itself.
    for store in read[hypervisor]:
        memory.write_int(store.slot, store.function, 8)


def hypervisor_of(cpu: LogicalCpu) -> str | None:
    """Symbol of the code that a kernel chooses for a CPU's hypervisor, whether it has it or not.

    Of several that call themselves something the one at the highest base, as
    ``detect_hypervisor_vendor()`` has it: KVM offers Hyper-V's interface below its own.
    """
    _, _, features, _ = cpu.hardware((cpu.number, 1, 0))
    if not features & HYPERVISOR_PRESENT or not any(_name(cpu, HYPERVISOR_LEAF)):
        return None
    named = [_AT_FIRST_BASE.get(_name(cpu, HYPERVISOR_LEAF))]
    named += [_AT_ANY_BASE.get(_name(cpu, base)) for base in _BASES[1:]]
    return next(filter(None, reversed(named)), None)


def _name(cpu: LogicalCpu, base: int) -> bytes:
    _, *letters = cpu.hardware((cpu.number, base, 0))
    return b"".join(register.to_bytes(4, "little") for register in letters)


def hook_stores(image: KernelImage, hypervisor: str) -> tuple[HookStore, ...]:
    """Every store to a hook in the code for a hypervisor, in the order of its functions.

    Raises:
        DerivationError: It does something else with the hooks.
    """
    hooks = [_extent(image, name) for name in _HOOKS]
    return tuple(
        store
        for function in _functions(image, hypervisor)
        for store in _stores(image, function, hooks)
    )


def _extent(image: KernelImage, name: str) -> range:
    start, size = required_address(image.symbols, name), image.symbols.size_of(name)
    if size is None:
        raise DerivationError(f"where {name} ends is not known")
    return range(start, start + size)


def _functions(image: KernelImage, hypervisor: str) -> Iterator[int]:
    """Those that the structure points to, and what of ``__init`` they call, each once."""
    init = range(
        required_address(image.symbols, "_sinittext"), required_address(image.symbols, "_einittext")
    )
    start = required_address(image.symbols, hypervisor)
    words = (start + 8 * index for index in range(_FIRST_FUNCTION, _LAST_WORD))
    pending = [int.from_bytes(image.read(word, 8), "little") for word in words]
    reached = set[int]()
    while pending:
        place = pending.pop(0)
        function = image.symbols.start_of(place) if place in init else None
        if function is not None and function not in reached:
            reached.add(function)
            yield function
            pending += _branches(image, function)


def _branches(image: KernelImage, function: int) -> Iterator[int]:
    """Where its direct calls and jumps lead, within it or elsewhere."""
    for one in function_code(image, function):
        target = leads_to(one)
        if target is not None:
            yield target


def _stores(image: KernelImage, function: int, hooks: Sequence[range]) -> Iterator[HookStore]:
    for instruction in function_code(image, function):
        places = [operand_address(instruction, operand) for operand in instruction.operands]
        if not any(place in hook for place in places if place is not None for hook in hooks):
            continue
        name = _name_of(image, function)
        if instruction.id != cx.X86_INS_MOV or not _is_store(instruction):
            raise DerivationError(
                f"{name}() does more with the hooks than to store an address: "
                f"{instruction.mnemonic} {instruction.op_str}"
            )
        slot, value = places
        assert slot is not None
        assert value is not None
        yield HookStore(slot, value, name)


def _is_store(instruction: capstone.CsInsn) -> bool:
    kinds = [operand.type for operand in instruction.operands]
    return kinds == [cx.X86_OP_MEM, cx.X86_OP_IMM] and instruction.operands[0].size == 8


def _name_of(image: KernelImage, function: int) -> str:
    enclosing = image.symbols.enclosing(function)
    return f"{function:#x}" if enclosing is None else enclosing[0]

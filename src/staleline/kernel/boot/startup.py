# SPDX-License-Identifier: GPL-2.0-or-later
"""Run the kernel code that turns hardware facts into the state its WBINVD guards read.

In the order of a boot: ``sme_enable()`` (startup code), ``early_cpu_init()``
(``setup_arch()``), the per-CPU areas, ``identify_cpu()`` of the boot CPU, and a
secondary's ``identify_secondary_cpu()``. Nothing is set by hand that this code derives.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from staleline.evidence.commandline import XLF_MEM_ENCRYPTION, decompressor_sees_on
from staleline.hardware import MASK_64, TDX_KEYIDS
from staleline.kernel.boot.ccblob import give_cc_blob
from staleline.kernel.boot.hypervisorhooks import put_hooks
from staleline.kernel.boot.machine import SECONDARY
from staleline.kernel.boot.percpu import PerCpu
from staleline.kernel.boot.seamcalls import can_seamcall, make_seamcalls
from staleline.kernel.derivation import DerivationError
from staleline.kernel.emulator.execution.end import EndKind
from staleline.kernel.emulator.layout import BOOT_PARAMS, COMMAND_LINE
from staleline.kernel.emulator.traps import LogicalCpu
from staleline.kernel.image.configuration import is_for_one_cpu, require_kexec_of_several_cpus
from staleline.kernel.image.image import KernelImage
from staleline.kernel.image.symbols import required_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from staleline.kernel.boot.decision import RawMachine
    from staleline.kernel.boot.machine import EmulatedMachine
    from staleline.kernel.emulator.emulator import Emulator
    from staleline.kernel.emulator.memory import KeptMemory, MachineMemory

__all__ = [
    "boot",
    "boot_once",
    "identify",
    "read_sme_active",
    "start_up",
    "start_up_told",
]

# Documentation/arch/x86/boot.rst and arch/x86/include/uapi/asm/bootparam.h, 6.12.
_CMD_LINE_PTR: Final = 0x228
_XLOADFLAGS: Final = 0x236
_SEV_ENABLED: Final = 1 << 0
_TDX_KEYIDS_SHIFT: Final = 32
_SME_MASK: Final = "sme_me_mask"
#: Called by ``identify_boot_cpu()`` behind ``identify_cpu()`` where CONFIG_INTEL_TDX_HOST is
#: set (linux 6.12.117 arch/x86/kernel/cpu/common.c:2039, 7.3.4 :2175); it reads the KeyIDs and
#: sets X86_FEATURE_TDX_HOST_PLATFORM. A kernel that can make SEAMCALLs has it, though a linker
#: that optimises across files may have put it into its caller.
_TDX_INIT: Final = "tdx_init"
_HIBERNATE: Final = "hibernate"  # with CONFIG_HIBERNATION only, kernel/power/hibernate.c
_SME_ENABLE: Final = ("__pi_sme_enable", "sme_enable")  # the first since 6.18


def boot(
    emulated: EmulatedMachine,
    cpus: Sequence[LogicalCpu],
    *,
    mem_encrypt: bool,
) -> None:
    """Run every derivation step, and make the SEAMCALLs of a host that uses TDX.

    Args:
        emulated: Its image in its memory, pristine.
        cpus: The jumping CPU and the secondary.
        mem_encrypt: The command line says ``mem_encrypt=on``.

    Raises:
        DerivationError: A step did not return.
    """
    try:
        start_up(emulated, cpus[0], mem_encrypt=mem_encrypt)
    finally:
        cpus[0].record.clear()
    identify(emulated, cpus)
    make_seamcalls(emulated.image, emulated.emulator, cpus)


@dataclass(frozen=True, slots=True)
class _Booted:
    """What a boot left."""

    machine: RawMachine
    memory: KeptMemory
    cpus: tuple[LogicalCpu, ...]


_BOOTED: WeakKeyDictionary[KernelImage, list[_Booted]] = WeakKeyDictionary()
#: Of one image; as many machines as an image is run again on.
_MOST_KEPT: Final = 16


def boot_once(
    emulated: EmulatedMachine, machine: RawMachine, cpus: tuple[LogicalCpu, LogicalCpu]
) -> None:
    """Start over and `boot`, or put back what an equal boot of the image has left.

    Args:
        emulated: The machine; any state of its memory will do.
        machine: What is asked of it.
        cpus: Its CPUs, which have run nothing.

    Raises:
        DerivationError: A step did not return.
    """
    # A boot is a function of the image and of what the machine answers, whichever engine runs it.
    known = _BOOTED.setdefault(emulated.image, [])
    for booted in known:
        if booted.machine == machine:
            emulated.memory.put_back(booted.memory)
            for cpu, left in zip(cpus, booted.cpus, strict=True):
                cpu.take_over(left)
            return
    emulated.start_over()
    boot(emulated, cpus, mem_encrypt=machine.mem_encrypt)
    if len(known) < _MOST_KEPT:
        kept = tuple(LogicalCpu(cpu.number, cpu.cpuid, cpu.msr) for cpu in cpus)
        for one, cpu in zip(kept, cpus, strict=True):
            one.take_over(cpu)
        known.append(_Booted(machine, emulated.memory.kept(), kept))


def start_up(
    emulated: EmulatedMachine,
    cpu: LogicalCpu,
    *,
    mem_encrypt: bool,
) -> None:
    """Run the startup code with a command line that says ``mem_encrypt=on`` or nothing."""
    start_up_told(emulated, cpu, "mem_encrypt=on" if mem_encrypt else "")


def start_up_told(
    emulated: EmulatedMachine,
    cpu: LogicalCpu,
    command_line: str,
) -> None:
    """Run the startup code, and leave nothing behind but the kernel's memory and the CPU's."""
    if any(name in emulated.image.symbols for name in (*_SME_ENABLE, _SME_MASK)):
        alone = is_for_one_cpu(emulated.image.symbols)  # then per-CPU variables are variables
        cpu.gs_base = 0 if alone else PerCpu(emulated.image, emulated.memory).early_offset
        _write_boot_params(emulated.memory, command_line)
        give_cc_blob(emulated.memory, cpu)
        _Steps(emulated.image, emulated.emulator).run(cpu, _SME_ENABLE, BOOT_PARAMS.start)
    # Startup code has a stack and boot parameters of its own, which the kernel does not use
    # afterwards; what follows is a function of the kernel's memory, of what `cpu` keeps, and of
    # what the hardware answers from here on.
    emulated.memory.clear_ram()
    emulated.emulator.prepare_ram()


def identify(emulated: EmulatedMachine, cpus: Sequence[LogicalCpu]) -> None:
    """Identify the jumping CPU and the secondary, and give each its per-CPU area.

    Raises:
        DerivationError: A step did not return, or the kernel hands over to no other.
    """
    require_kexec_of_several_cpus(emulated.image.symbols)
    steps = _Steps(emulated.image, emulated.emulator)
    areas = PerCpu(emulated.image, emulated.memory)
    first, second = cpus
    first.gs_base = areas.early_offset
    steps.run(first, ("early_cpu_init",))
    areas.set_up_areas(len(cpus))
    first.gs_base, second.gs_base = areas.offset(0), areas.offset(SECONDARY)
    steps.run(first, ("identify_cpu",), steps.address("boot_cpu_data"))
    if _TDX_INIT in emulated.image.symbols:
        _forbid_hibernation_to_tdx_hosts(emulated.image, emulated.memory, first)
        steps.run(first, (_TDX_INIT,))
    elif can_seamcall(emulated.image):
        raise DerivationError(f"the image makes SEAMCALLs and has no symbol {_TDX_INIT}")
    _store_boot_cpu_info(emulated.image, emulated.memory, first)
    put_hooks(emulated.image, emulated.memory, first)
    steps.run(second, ("smp_store_cpu_info", "identify_secondary_cpu"), SECONDARY)


def read_sme_active(image: KernelImage, memory: MachineMemory) -> bool | None:
    """``sme_me_mask`` is set and SEV is not active, as derived.

    Up to 5.15 this is ``sme_active()``, later CC_ATTR_HOST_MEM_ENCRYPT. False for a kernel
    built without CONFIG_AMD_MEM_ENCRYPT; None if the image has the code but not the names.
    """
    mask, status = image.symbols.address(_SME_MASK), image.symbols.address("sev_status")
    if mask is not None and status is not None:
        return memory.read_int(mask, 8) != 0 and not memory.read_int(status, 8) & _SEV_ENABLED
    return None if any(name in image.symbols for name in _SME_ENABLE) else False


def _store_boot_cpu_info(image: KernelImage, memory: MachineMemory, cpu: LogicalCpu) -> None:
    """Make the boot CPU's ``cpu_info`` a copy of ``boot_cpu_data``, as every kernel does."""
    copy = image.symbols.address("cpu_info")
    if copy is None:
        return
    original = required_address(image.symbols, "boot_cpu_data")
    # ``smp_store_boot_cpu_info()`` (5.10.262 arch/x86/kernel/smpboot.c:382) and, without a function
    # of its own, ``arch_cpu_finalize_init()`` (7.3.4 arch/x86/kernel/cpu/common.c:2641). Without
    # CONFIG_SMP the one is the other.
    size = image.symbols.size_of("boot_cpu_data")
    if size is None:
        raise DerivationError("where boot_cpu_data ends is not known")
    memory.write((copy + cpu.gs_base) & MASK_64, memory.read(original, size))


def _forbid_hibernation_to_tdx_hosts(
    image: KernelImage, memory: MachineMemory, cpu: LogicalCpu
) -> None:
    """``nohibernate`` on the command line, without which ``tdx_init()`` wants no TDX."""
    can_hibernate = _HIBERNATE in image.symbols
    if can_hibernate and cpu.msr.get(TDX_KEYIDS, 0) >> _TDX_KEYIDS_SHIFT:
        # One byte: clang makes a bool of a static int that is only ever 0 or 1.
        memory.write_int(required_address(image.symbols, "nohibernate"), 1, 1)


class _Steps:
    """Runs one function after another; the first that does not return ends it."""

    def __init__(self, image: KernelImage, emulator: Emulator) -> None:
        self._image = image
        self._emulator = emulator

    def run(self, cpu: LogicalCpu, names: tuple[str, ...], *arguments: int) -> None:
        name = next((name for name in names if name in self._image.symbols), None)
        if name is None:
            raise DerivationError(f"the image has no symbol {names[-1]}")
        end = self._emulator.run(self.address(name), arguments, cpu=cpu)
        if end.kind is not EndKind.RETURNED:
            what = self._emulator.told(end)
            raise DerivationError(f"{name}() on CPU {cpu.number} did not return: {what}")

    def address(self, name: str) -> int:
        address = self._image.symbols.address(name)
        if address is None:
            raise DerivationError(f"the image has no symbol {name}")
        return address


def _write_boot_params(memory: MachineMemory, command_line: str) -> None:
    """The zero page, as the decompressor leaves it."""
    text = os.fsencode(command_line)[: len(COMMAND_LINE) - 1]
    # Up to 6.8 the kernel parses ``mem_encrypt=`` itself; since 6.9 (commit cd0d9d92c8bb) the
    # decompressor or EFI stub does, and tells it by XLF_MEM_ENCRYPTION.
    flags = XLF_MEM_ENCRYPTION * decompressor_sees_on(text)
    memory.write(COMMAND_LINE.start, text + b"\0")
    memory.write_int(BOOT_PARAMS.start + _CMD_LINE_PTR, COMMAND_LINE.start, 4)
    memory.write_int(BOOT_PARAMS.start + _XLOADFLAGS, flags, 2)

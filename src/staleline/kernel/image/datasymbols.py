# SPDX-License-Identifier: GPL-2.0-or-later
"""Data symbols of a kernel that lists functions only (CONFIG_KALLSYMS_ALL=n).

``symbol_valid()`` in scripts/kallsyms.c drops what lies outside ``_stext`` to ``_etext`` and
``_sinittext`` to ``_einittext``. Most variables that matter are exported to modules; the per-CPU
area is a section; the few others are read off the instructions of functions that use nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import capstone  # type: ignore[import-untyped]
from capstone import x86

from staleline.errors import KernelImageError
from staleline.hardware import MASK_64
from staleline.kernel.addresses import KERNEL_MAP
from staleline.kernel.image.exports import exported_symbols

if TYPE_CHECKING:
    from staleline.kernel.image.image import KernelImage

__all__ = ["data_symbols"]

_LONGEST_FUNCTION: Final = 1 << 14
_CONTROL_PAGE: Final = 0x1000
_MODULES: Final = 0xFFFF_FFFF_C000_0000  # MODULES_VADDR
_ACTION_WORDS: Final = 5
_PAGE: Final = 0x1000
_PERCPU: Final = ".data..percpu"
_ONLINE: Final = "__cpu_online_mask"


def data_symbols(image: KernelImage) -> Mapping[str, int]:
    """Link addresses of variables by name, as many as can be told.

    Args:
        image: A kernel whose symbols are functions only.
    """
    exports = exported_symbols(image)
    return {
        **_per_cpu_area(image),
        **_reports(image, exports),
        **_sev_status(image, exports),
        # kernel/crash_core.c (kernel/kexec_core.c in 5.10), arch/x86/kernel/reboot.c.
        **_set_and_used(image, "crash_notes", "crash_notes_memory_init", "crash_save_cpu"),
        **_set_and_used(image, "shootdown_callback", "nmi_shootdown_cpus", "crash_nmi_callback"),
        # kernel/power/hibernate.c; clang makes one byte of the int.
        **_set_and_used(
            image, "nohibernate", "nohibernate_setup", "hibernation_available", sizes=(1, 4)
        ),
        # arch/x86/lib/delay.c.
        **_set_and_used(image, "delay_fn", "use_tsc_delay", "__delay"),
        # arch/x86/kernel/smp.c; "nonmi_ipi" on the command line.
        **_set_and_used(
            image, "smp_no_nmi_ipi", "nonmi_ipi_setup", "native_stop_other_cpus", sizes=(1, 4)
        ),
        **_nmi_handlers(image),
        **_relocate_kernel(image),
        **_idt_table(image),
    }


def _per_cpu_area(image: KernelImage) -> Mapping[str, int]:
    """``PERCPU_SECTION`` of asm-generic/vmlinux.lds.h; the load address up to 6.15."""
    section = image.sections.get(_PERCPU)
    if section is None:
        return {}
    start = section.virtual_address
    bounds = {"__per_cpu_start": start, "__per_cpu_end": start + section.size}
    for segment in image.segments:
        if start == 0 == segment.virtual_address:
            bounds["__per_cpu_load"] = (KERNEL_MAP + segment.physical_address) & MASK_64
    return bounds


def _reports(image: KernelImage, exports: Mapping[str, int]) -> Mapping[str, int]:
    """The exports, and where ``stop_this_cpu()`` reports itself stopped if it is none of them."""
    # It clears its bit of cpus_stop_mask since 6.5, or counts down stop_cpus_count in some before,
    # or has cleared its bit of __cpu_online_mask, which is exported (arch/x86/kernel/process.c).
    names = {"lock btr": "cpus_stop_mask", "lock dec": "stop_cpus_count"}
    changed = {
        (instruction.mnemonic, cell)
        for instruction, cell in _uses(image, "stop_this_cpu")
        if instruction.mnemonic.startswith("lock") and cell != exports.get(_ONLINE)
    }
    if not changed and _is_read_whole(image, "stop_this_cpu"):
        return exports
    reports = {names[how]: cell for how, cell in changed if how in names}
    if len(changed) == len(reports) == 1 and _ONLINE in exports:
        return {**exports, **reports}
    # It changes something else, or what it changes is not known: then nobody may take the online
    # mask for the report.
    return {name: address for name, address in exports.items() if name != _ONLINE}


def _sev_status(image: KernelImage, exports: Mapping[str, int]) -> Mapping[str, int]:
    """Beside ``sme_me_mask``; ``sme_enable()`` sets both, and what tells of SME reads both."""
    mask = exports.get("sme_me_mask")
    if mask is None:
        return {}
    setters = _cells(image, "__pi_sme_enable") | _cells(image, "sme_enable")
    readers = _cells(image, "amd_cc_platform_has") | _cells(image, "cc_platform_has")
    readers |= _cells(image, "sev_active")
    # Eight bytes each in .data, defined one behind the other (linux 7.3.4
    # arch/x86/mm/mem_encrypt_amd.c:42, 5.10.223 arch/x86/mm/mem_encrypt.c:41).
    beside = {cell for cell in setters & readers if abs(cell - mask) == 8}
    return {"sev_status": beside.pop()} if len(beside) == 1 and mask in setters else {}


def _set_and_used(
    image: KernelImage, name: str, setter: str, user: str, sizes: Sequence[int] = (8,)
) -> Mapping[str, int]:
    """The only variable of one of these sizes that one function stores and another uses."""
    stored = {
        cell
        for instruction, cell in _uses(image, setter)
        if any(_stores(instruction, size) for size in sizes)
    }
    cells = stored & _cells(image, user)
    # Each has one place it can be, or is left out: then what needs it says so by name.
    return {name: cells.pop()} if len(cells) == 1 else {}


def _relocate_kernel(image: KernelImage) -> Mapping[str, int]:
    """Since 6.14 it is data that ``machine_kexec_prepare()`` copies (commit 207bdf7f72ae)."""
    function = "machine_kexec_prepare"
    copied = {
        (start, end)
        for start, end in _copied_ranges(image, function)
        if KERNEL_MAP < start < end <= start + _CONTROL_PAGE
    }
    if len(copied) != 1:
        return {}
    start, end = copied.pop()
    cells = [
        cell
        for instruction, cell in _uses(image, function)
        if start <= cell < end and _stores(instruction, 8)
    ]
    # It stores three variables, one behind the other, into what it copies afterwards.
    if not cells or cells != [cells[0], cells[0] + 8, cells[0] + 16]:
        return {}
    return {
        "relocate_kernel": start,
        "__relocate_kernel_start": start,
        "__relocate_kernel_end": end,
        "kexec_va_control_page": cells[0],
        "kexec_pa_table_page": cells[1],
        "kexec_pa_swap_page": cells[2],
    }


def _idt_table(image: KernelImage) -> Mapping[str, int]:
    """The only page whose address ``idt_setup_apic_and_irq_gates()`` passes on, to protect it."""
    passed = {
        operand.imm & MASK_64
        for instruction in _instructions(image, "idt_setup_apic_and_irq_gates")
        for operand in instruction.operands
        if instruction.mnemonic == "mov" and operand.type == x86.X86_OP_IMM
    }
    # ``set_memory_ro((unsigned long)&idt_table, 1)``, arch/x86/kernel/idt.c, 5.10 to 7.3.
    pages = {address for address in passed if address > KERNEL_MAP and not address % _PAGE}
    return {"idt_table": pages.pop()} if len(pages) == 1 else {}


def _nmi_handlers(image: KernelImage) -> Mapping[str, int]:
    """``nmi_desc`` of arch/x86/kernel/nmi.c, and the handler that is put there to stop CPUs."""
    # Who registers and who takes away names the table and a place in it.
    tables = _named(image, "__register_nmi_handler") & _named(image, "unregister_nmi_handler")
    # What holds this in its first words is the handler's structure (struct nmiaction, asm/nmi.h,
    # 5.10 to 7.3).
    callback = image.symbols.only_address("smp_stop_nmi_callback")
    handlers = {
        address
        for address in _named(image, "native_stop_other_cpus")
        if callback is not None and callback in _words(image, address, _ACTION_WORDS)
    }
    return {
        **({"nmi_desc": min(tables)} if tables else {}),
        **({"smp_stop_nmi_callback_na.0": handlers.pop()} if len(handlers) == 1 else {}),
    }


def _named(image: KernelImage, function: str) -> set[int]:
    """Addresses behind all code that a function names, by themselves or to use what is there."""
    end = image.symbols.only_address("_etext")
    passed = {
        operand.imm & MASK_64
        for instruction in _instructions(image, function)
        for operand in instruction.operands
        if operand.type == x86.X86_OP_IMM
    }
    indexed = {
        operand.mem.disp & MASK_64
        for instruction in _instructions(image, function)
        for operand in instruction.operands
        if operand.type == x86.X86_OP_MEM and operand.mem.base != x86.X86_REG_RIP
    }
    named = passed | indexed | _cells(image, function)
    return {address for address in named if end is not None and end < address < _MODULES}


def _words(image: KernelImage, address: int, count: int) -> Sequence[int]:
    try:
        content = image.read(address, 8 * count)
    except KernelImageError:
        return ()
    return [int.from_bytes(content[at : at + 8], "little") for at in range(0, len(content), 8)]


def _copied_ranges(image: KernelImage, function: str) -> Iterator[tuple[int, int]]:
    """``mov rdx, end`` and ``sub rdx, start``, the size that memcpy is called with."""
    end = None
    for instruction in _instructions(image, function):
        if len(instruction.operands) != 2:
            continue
        target, value = instruction.operands
        if target.type != x86.X86_OP_REG or target.reg != x86.X86_REG_RDX:
            continue
        constant = value.imm & MASK_64 if value.type == x86.X86_OP_IMM else None
        if instruction.mnemonic == "mov":
            end = constant
        elif instruction.mnemonic == "sub" and constant and end:
            yield constant, end


def _cells(image: KernelImage, function: str) -> set[int]:
    return {cell for _, cell in _uses(image, function)}


def _uses(image: KernelImage, function: str) -> Iterator[tuple[capstone.CsInsn, int]]:
    """Instructions that name a variable by its address, which is not a per-CPU one."""
    for instruction in _instructions(image, function):
        for operand in instruction.operands:
            memory = operand.mem
            if operand.type != x86.X86_OP_MEM or memory.segment != x86.X86_REG_INVALID:
                continue
            if memory.base == x86.X86_REG_RIP:
                yield instruction, (instruction.address + instruction.size + memory.disp) & MASK_64


def _stores(instruction: capstone.CsInsn, size: int) -> bool:
    target = instruction.operands[0]
    return bool(
        instruction.mnemonic == "mov" and target.type == x86.X86_OP_MEM and target.size == size
    )


def _instructions(image: KernelImage, function: str) -> Sequence[capstone.CsInsn]:
    """All of one function; none if the kernel has no such function, or it cannot be read whole."""
    start = image.symbols.only_address(function)
    size = None if start is None else image.symbols.size_of(function)
    if start is None or size is None:
        return ()
    try:
        code = image.read(start, min(size, _LONGEST_FUNCTION))
    except KernelImageError:  # the symbols reach beyond the image
        return ()
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    instructions = list(disassembler.disasm(code, start))
    # Behind what the decoder does not know may lie another variable: of a part of a function the
    # only one is none.
    is_whole = bool(instructions) and sum(one.size for one in instructions) == size
    return instructions if is_whole else ()


def _is_read_whole(image: KernelImage, function: str) -> bool:
    return bool(_instructions(image, function))

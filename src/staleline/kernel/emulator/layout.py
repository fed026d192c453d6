# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the emulated machine has what: its physical memory, and the kernel's view of it.

All that is written into low RAM by hand has its place here, so that nothing is in two of them.
"""

from __future__ import annotations

from typing import Final

from staleline.kernel.addresses import KERNEL_HALF

__all__ = [
    "APIC",
    "BOOT_PARAMS",
    "CC_BLOB",
    "CC_CPUID",
    "CC_SECRETS",
    "COMMAND_LINE",
    "CONTROL_PAGES",
    "DEFAULT_PAGE_OFFSET",
    "DEFAULT_VMEMMAP",
    "DESCRIPTORS",
    "ENTRY_GATE",
    "GATES",
    "IDLE_PORT",
    "INTERRUPT_STACK",
    "KIMAGE",
    "LARGEST_PER_CPU_AREA",
    "PAGE",
    "PAGE_STRUCTURES",
    "RAM_SIZE",
    "REGISTERS",
    "RETURN_GATE",
    "SECTION_ROOT",
    "SECTION_ROOTS",
    "SHADOW",
    "SHADOW_OFFSET",
    "SHADOW_RAM",
    "SHADOW_SCALE",
    "SWAP_PAGE",
    "is_pointer",
    "per_cpu_area",
    "stack_of",
]

PAGE: Final = 0x1000
#: Bytes of low RAM. The image is linked above it (CONFIG_PHYSICAL_START, 16 MiB).
RAM_SIZE: Final = 0x100_0000

# Physical addresses in low RAM.
#: The emulator's own descriptor table.
DESCRIPTORS: Final = range(0x1000, 0x2000)
#: A function that returns, and one that jumps to the next kernel, meets a HLT; around them
#: is nothing but INT3, so that code running wild does not slide into one.
GATES: Final = range(0x2000, 0x3000)
RETURN_GATE: Final = GATES.start + 0x400
ENTRY_GATE: Final = GATES.start + 0x800
#: The zero page, and the command line (COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h, 5.10 to
#: 7.3), for the startup code.
BOOT_PARAMS: Final = range(0x4000, 0x5000)
COMMAND_LINE: Final = range(0x5000, 0x5800)
#: What firmware gives an SNP guest: likewise.
CC_BLOB: Final = range(0x6000, 0x7000)
CC_SECRETS: Final = range(0x7000, 0x8000)
CC_CPUID: Final = range(0x8000, 0x9000)
#: An interrupted code's ``struct pt_regs``, zeros: 21 registers.
#: Where something of the startup code's was: that runs before a kexec is set up, and low RAM is
#: empty again between the two.
REGISTERS: Final = range(0x6000, 0x6000 + 21 * 8)
#: A ``struct kimage``, up to its flags.
KIMAGE: Final = range(0x8000, 0x8400)
#: The swap page of a kexec jump, and the control page, where relocate_kernel() is copied. They are
#: decrypted where the old kernel encrypts, in the direct map too, until they are freed
#: (linux 7.3.4 kernel/kexec_core.c:294,457 arch_kexec_post_alloc_pages()).
SWAP_PAGE: Final = range(0xA000, 0xB000)
CONTROL_PAGES: Final = range(0x1_0000, 0x1_2000)
_STACKS: Final = 0x2_0000
_STACK_SIZE: Final = 0x1_0000
_PER_CPU: Final = 0x10_0000
LARGEST_PER_CPU_AREA: Final = 0x40_0000
#: The ``struct page`` of each page of 16 MiB, for a kernel without CONFIG_SPARSEMEM_VMEMMAP. All
#: are of section 0, since nothing sets their flags; the table of roots; its first root, which
#: begins with the section's ``section_mem_map``.
PAGE_STRUCTURES: Final = range(0xC0_0000, 0xC4_0000)
SECTION_ROOTS: Final = range(0xD0_0000, 0xD0_1000)
SECTION_ROOT: Final = range(0xD0_1000, 0xD0_2000)
#: Physical address of KASAN's shadow, above all else: a kernel takes free memory for it.
SHADOW_RAM: Final = 1 << 32

#: The I/O port that a CPU sleeps at which is put to sleep by one, PMIO's P_LVL2 as firmware has it.
IDLE_PORT: Final = 0x414

# The kernel's view.
#: ``__PAGE_OFFSET_BASE_L4``, where physical address 0 is in the direct map
#: (arch/x86/include/asm/page_64_types.h, unchanged from 5.10 to 7.3).
DEFAULT_PAGE_OFFSET: Final = 0xFFFF_8880_0000_0000
#: ``__VMEMMAP_BASE_L4``, arch/x86/include/asm/pgtable_64_types.h.
DEFAULT_VMEMMAP: Final = 0xFFFF_EA00_0000_0000
#: ``APIC_BASE``, the fixmap address of the local APIC's registers (FIX_APIC_BASE,
#: arch/x86/include/asm/fixmap.h). Up to 6.6 the APIC ID is read during identification.
APIC: Final = range(0xFFFF_FFFF_FF5F_D000, 0xFFFF_FFFF_FF5F_E000)
#: KASAN's shadow, of all that a kernel can address with four levels of page tables; with five it
#: begins lower, but so does the direct map, which image files have where it is with four. The
#: offset is the only one that arch/x86/Kconfig has (KASAN_SHADOW_OFFSET, 5.10 to 7.3).
SHADOW_OFFSET: Final = 0xDFFF_FC00_0000_0000
SHADOW_SCALE: Final = 8
SHADOW: Final = range(
    KERNEL_HALF.start // SHADOW_SCALE + SHADOW_OFFSET,
    KERNEL_HALF.stop // SHADOW_SCALE + SHADOW_OFFSET,
)


def stack_of(cpu: int) -> range:
    """Each CPU has a stack of its own."""
    start = _STACKS + cpu * _STACK_SIZE
    return range(start, start + _STACK_SIZE)


#: The pages that the secondary's interrupt stack is mapped to: the lower half of what it has for
#: stacks. IRQ_STACK_SIZE is 16 KiB, 32 KiB with KASAN.
INTERRUPT_STACK: Final = range(stack_of(1).start, stack_of(1).start + _STACK_SIZE // 2)


def per_cpu_area(cpu: int) -> range:
    """Room for a CPU's per-CPU variables."""
    start = _PER_CPU + cpu * LARGEST_PER_CPU_AREA
    return range(start, start + LARGEST_PER_CPU_AREA)


def is_pointer(content: bytes) -> bool:
    """Does it look like an address in the kernel's half of the address space?"""
    return int.from_bytes(content, "little") >= KERNEL_HALF.start

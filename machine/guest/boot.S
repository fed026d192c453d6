// SPDX-License-Identifier: GPL-2.0-or-later
// A boot sector for guests of the simulated machine. The kernel, its initramfs and the page that
// tells of them were put into memory before the machine was switched on; this goes to long mode
// and to the kernel, as a 64-bit boot loader does (Documentation/arch/x86/boot.rst of linux, "64-bit
// Boot Protocol").
//
// PAGE has the kernel's entry, PAGE + 0x1000 its boot_params, PAGE + 0x3000 page tables that map
// 4 GB where they are: src/staleline/simulation/medium.py.

.intel_syntax noprefix
.set PAGE, 0x100000

.code16
.globl _start
_start:
	cli
	xor ax, ax
	mov ds, ax
	in al, 0x92                // A20
	or al, 2
	out 0x92, al
	lgdt [descriptor]
	mov eax, 0x20              // PAE
	mov cr4, eax
	mov eax, PAGE + 0x3000
	mov cr3, eax
	mov ecx, 0xc0000080
	rdmsr
	or eax, 0x100
	wrmsr
	mov eax, 0x80000011        // paging, protection; caches are on
	mov cr0, eax
	.byte 0xea                 // a far jump to 64-bit code
	.word long_mode
	.word 0x10
	.code64
long_mode:
	mov eax, 0x18
	mov ds, eax
	mov es, eax
	mov ss, eax
	mov esp, 0x7c00
	mov esi, PAGE + 0x1000
	mov eax, [PAGE]
	jmp rax

descriptor:
	.word 31
	.long descriptors
	.balign 8
descriptors:                       // __BOOT_CS is 0x10, __BOOT_DS 0x18
	.quad 0, 0, 0x00af9a000000ffff, 0x00cf92000000ffff

	.org 510
	.word 0xaa55

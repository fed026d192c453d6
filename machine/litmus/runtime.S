// SPDX-License-Identifier: GPL-2.0-or-later
// What every litmus program of the simulated machine stands on. A boot sector loads the rest, both
// CPUs go to long mode, and the program, which fits a sector itself, runs on CPU 0. Physical memory
// is mapped several times, a window for each alias and memory type.
//
// What a program observes is written to the serial port: one line of hexadecimal quadwords.

.intel_syntax noprefix

// Windows: 1 GB each, of which the first 16 MB are mapped.
.set PLAIN,      0x000000000
.set CBIT,       0x040000000
.set PLAIN_UC,   0x080000000
.set CBIT_UC,    0x0c0000000
.set DEVICES,    0x100000000   // physical 3 GB and above
.set PLAIN_WC,   0x140000000
.set PLAIN_WT,   0x180000000
.set PLAIN_WP,   0x1c0000000
.set CBIT_WC,    0x200000000
.set HIGH,       0xffffff8000000000 // all windows again, where kernels run

.set X, 0x200000               // lines that programs use
.set Y, 0x201040
.set Z, 0x20e040               // in sets that nothing else of this needs

.set A, 0xaaaaaaaaaaaaaaaa     // values that programs store
.set B, 0xbbbbbbbbbbbbbbbb
.set C, 0xcccccccccccccccc

.set TABLES, 0x10000
.set OBSERVED, 0x20000
.set TASK, 0x5ff8              // what CPU 1 has to do, and is done when it is 0
.set TRAMPOLINE, 0x1000
.set BOOTS, 0x60               // a byte of CMOS that a reset keeps

.macro address window, line
	movabs r10, \window + \line
.endm

.macro store window, line, value
	address \window, \line
	movabs rax, \value
	mov [r10], rax
.endm

.macro store_nontemporal window, line, value
	address \window, \line
	movabs rax, \value
	movnti [r10], rax
.endm

.macro load window, line
	address \window, \line
	mov rax, [r10]
	call observe
.endm

.macro on_cpu1 function
	mov rax, offset \function
	call run_on_cpu1
.endm

.section .text
.code16
.globl _start
_start:
	cli
	cld
	xor ax, ax
	mov ds, ax
	mov es, ax
	mov ss, ax
	mov sp, 0x7c00
	mov [drive], dl
	mov ax, 0x0200 + 17        // the rest of the first track
	mov bx, 0x7e00
	mov cx, 2
	xor dh, dh
	int 0x13
	jc stuck
	cli
	call enter_long_mode
	.code64
	mov rsp, 0x7000
	jmp main
	.code16
stuck:
	hlt
	jmp stuck
drive:
	.byte 0

// Page tables are made by CPU 0 alone. The return address is taken off a 16-bit stack.
enter_long_mode:
	pop bp
	cmp byte ptr [tables_made], 0
	jne 1f
	call make_tables
	mov byte ptr [tables_made], 1
1:	mov eax, 0x6a0             // PAE, OSFXSR and OSXMMEXCPT, PGE
	mov cr4, eax
	mov eax, TABLES
	mov cr3, eax
	mov ecx, 0x277             // PAT: WB, WT, UC-, UC, WC, WP, UC-, UC
	mov eax, 0x00070406
	mov edx, 0x00070501
	wrmsr
	mov ecx, 0xc0000080
	rdmsr
	or eax, 0x100
	wrmsr
	lgdt [descriptor]
	mov eax, 0x80000011        // paging, protection; caches are on
	mov cr0, eax
	.byte 0xea                 // a far jump to 64-bit code
	.word long_mode
	.word 8
	.code64
long_mode:
	mov ax, 16
	mov ds, eax
	mov es, eax
	mov ss, eax
	movzx ebp, bp
	jmp rbp
	.code16

// PML4 at TABLES, PDPT one page up, then a page directory per window.
make_tables:
	mov ax, TABLES >> 4
	mov es, ax
	xor di, di
	xor eax, eax
	mov cx, 11 * 1024
	rep stosd
	mov dword ptr es:[0], TABLES + 0x1000 + 3
	mov dword ptr es:[0xff8], TABLES + 0x1000 + 3 // and again at HIGH
	xor bx, bx                 // window
1:	mov di, bx
	shl di, 3
	movzx eax, bx
	shl eax, 12
	add eax, TABLES + 0x2000 + 3
	mov es:[di + 0x1000], eax
	mov si, bx                 // low and high half of its entries
	shl si, 3
	mov eax, [windows + si]
	mov edx, [windows + si + 4]
	mov di, bx
	shl di, 12
	add di, 0x2000
	mov cx, 8
	cmp bx, DEVICES >> 30
	jne 2f
	mov cx, 512
2:	mov es:[di], eax
	mov es:[di + 4], edx
	add di, 8
	add eax, 0x200000
	loop 2b
	inc bx
	cmp bx, 9
	jb 1b
	xor ax, ax
	mov es, ax
	ret

tables_made:
	.byte 0
descriptor:
	.word 23
	.long descriptors
	.balign 8
descriptors:
	.quad 0, 0x00209a0000000000, 0x0000920000000000

	.org 510
	.word 0xaa55

// 2 MB pages: present, writable, large; PWT is bit 3, PCD bit 4, PAT bit 12; C-bit 47.
windows:
	.quad 0x83, 0x800000000083, 0x9b, 0x80000000009b, 0xc000009b
	.quad 0x1083, 0x8b, 0x108b, 0x800000001083

.code64
main:
	mov qword ptr [TASK], 0
	mov qword ptr [observed], OBSERVED
	mov al, BOOTS              // which boot is it?
	out 0x70, al
	in al, 0x71
	movzx r15, al
	inc al
	mov cl, al
	mov al, BOOTS
	out 0x70, al
	mov al, cl
	out 0x71, al
	call start_cpu1
	call program
finish:
	mov dx, 0x3fb              // 8 bits a character
	mov al, 3
	out dx, al
	mov rsi, OBSERVED
1:	cmp rsi, [observed]
	jae 3f
	lodsq
	mov rbx, rax
	mov ecx, 16
2:	rol rbx, 4
	call digit
	loop 2b
	mov al, 0x20
	call character
	jmp 1b
3:	mov al, 0x0a
	call character
	mov dx, 0x3fd
6:	in al, dx
	test al, 0x40              // sent
	jz 6b
	mov rsi, offset shutdown
4:	lodsb
	mov dx, 0x8900             // the emulator ends on this word
	out dx, al
	test al, al
	jnz 4b
5:	hlt
	jmp 5b
shutdown:
	.asciz "Shutdown"

// the low digit of bl
digit:
	mov al, bl
	and al, 15
	add al, 0x30
	cmp al, 0x39
	jbe character
	add al, 0x27
character:
	push rdx
	push rax
	mov dx, 0x3fd
1:	in al, dx
	test al, 0x20
	jz 1b
	pop rax
	mov dx, 0x3f8
	out dx, al
	pop rdx
	ret

// rax is part of the outcome
observe:
	push rdi
	mov rdi, [observed]
	stosq
	mov [observed], rdi
	pop rdi
	ret
observed:
	.quad 0

// rax: a function for CPU 1, which is done when this returns
run_on_cpu1:
	mov [TASK], rax
1:	pause
	cmp qword ptr [TASK], 0
	jne 1b
	ret

// INIT and start-up IPIs, to all but this CPU
start_cpu1:
	mov rsi, offset trampoline
	mov rdi, TRAMPOLINE
	mov ecx, trampoline_end - trampoline
	rep movsb
	movabs r10, DEVICES + 0x3ee00300
	mov qword ptr [TASK], 1
	call send_init
	mov dword ptr [r10], 0x000c4600 + (TRAMPOLINE >> 12)
1:	pause
	cmp qword ptr [TASK], 0
	jne 1b
	ret

// r10: the interrupt command register
send_init:
	mov dword ptr [r10], 0x000c4500
	mov ecx, 100000
1:	pause
	loop 1b
	ret

.code16
trampoline:
	cli
	cld
	xor ax, ax
	mov ds, ax
	mov ss, ax
	mov sp, 0x6000 - 0x100
	jmp 0:cpu1
trampoline_end:
cpu1:
	call enter_long_mode
	.code64
	mov rsp, 0x6000 - 0x100
	mov qword ptr [TASK], 0
1:	pause
	mov rax, [TASK]
	test rax, rax
	jz 1b
	call rax
	mov qword ptr [TASK], 0
	jmp 1b

// Transfers between a sector of the floppy and a physical address below 16 MB, by DMA channel 2.
// rbx: the address; cl: the sector of the second track
disk_to_memory:
	mov ah, 0x46               // the device writes to memory
	mov ch, 0xe6               // READ DATA
	jmp transfer
memory_to_disk:
	mov ah, 0x4a
	mov ch, 0xc5               // WRITE DATA
transfer:
	mov al, 6                  // mask channel 2
	out 0x0a, al
	out 0x0c, al               // low byte first
	mov al, ah
	out 0x0b, al
	mov al, bl
	out 4, al
	mov al, bh
	out 4, al
	mov eax, ebx
	shr eax, 16
	out 0x81, al
	mov al, 0xff               // 512 bytes
	out 5, al
	mov al, 1
	out 5, al
	mov al, 2
	out 0x0a, al
	mov al, 0x1c               // motor on, not in reset, DMA and interrupts
	mov dx, 0x3f2
	out dx, al
	mov al, ch
	call command
	mov al, 4                  // head 1
	call command
	mov al, 0
	call command
	mov al, 1
	call command
	mov al, cl
	call command
	mov al, 2
	call command
	mov al, 18
	call command
	mov al, 0x1b
	call command
	mov al, 0xff
	call command
	mov ecx, 7                 // the result
1:	mov dx, 0x3f4
2:	in al, dx
	and al, 0xc0
	cmp al, 0xc0
	jne 2b
	inc edx
	in al, dx
	loop 1b
	ret
command:
	push rax
	mov dx, 0x3f4
1:	in al, dx
	and al, 0xc0
	cmp al, 0x80
	jne 1b
	pop rax
	inc edx
	out dx, al
	ret

program_begin:
program:
#include "program.S"
	ret
	.org program_begin + 512   // it has to fit a sector

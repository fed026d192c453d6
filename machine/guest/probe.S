// SPDX-License-Identifier: GPL-2.0-or-later
// A next kernel that is none: it does with memory what a kernel does that goes on to use all of it,
// and nothing else. The old kernel's stale lines then destroy what they can destroy.
//
// It is entered as kexec enters a kernel, in long mode with memory mapped where it is. If it encrypts
// it flushes its CPU and encrypts its own image in place, as sme_encrypt_execute() of linux does
// (arch/x86/mm/mem_encrypt_boot.S). Then it stores to every line of its memory, waits, and loads
// every line again.

.intel_syntax noprefix
.code64
.set CBIT, 1 << 39                 // where memory is mapped through the C-bit: the second PML4 entry
.set CODE, 0x8000                  // code, tables and stack: not used as memory
.set SERIAL, 0x3f8
.set SHUTDOWN, 0x8900              // Bochs switches itself off by this port

.globl _start
_start:
	jmp 1f
	.balign 8
encrypts:	.quad 0                // what machine/guest/init.c puts in: struct probe
wait:		.quad 0
image_end:	.quad 0
memory:		.quad 0, 0, 0, 0       // two ranges

1:	cli
	lea rbx, [rip + _start]
	lea rsp, [rbx + CODE]
	call map
	mov r15, 0
	cmp qword ptr [rip + encrypts], 0
	je 2f
	movabs r15, CBIT
	wbinvd
	call encrypt
2:	rdtsc
	shl rdx, 32
	lea r14, [rdx + rax]
	mov r13, 1
	call over_memory
	add r14, [rip + wait]
3:	push rax                   // a store, with which the machine looks at the time
	pop rax
	rdtsc
	shl rdx, 32
	add rax, rdx
	cmp rax, r14
	jb 3b
	mov r13, 0
	call over_memory
	lea rsi, [rip + serial]
	mov ecx, 6
4:	movzx edx, byte ptr [rsi]
	mov al, [rsi + 1]
	add edx, SERIAL
	out dx, al
	add rsi, 2
	loop 4b
	lea rsi, [rip + tells]
	mov ebp, SERIAL
	call tell
	call sent
	lea rsi, [rip + shutdown]
	mov ebp, SHUTDOWN
	call tell
5:	hlt
	jmp 5b

// Pages of 1 GB: 4 of them plain, and again through the C-bit, bit 47.
map:
	lea rdi, [rip + tables]
	mov rax, rdi
	mov ecx, 3 * 512
	xor eax, eax
	rep stosq
	lea rdi, [rip + tables]
	lea rax, [rdi + 0x1003]
	mov [rdi], rax
	lea rax, [rdi + 0x2003]
	mov [rdi + 8], rax
	mov eax, 0x83
	movabs rdx, 1 << 47
	xor ecx, ecx
1:	mov [rdi + 0x1000 + rcx * 8], rax
	lea rsi, [rax + rdx]
	mov [rdi + 0x2000 + rcx * 8], rsi
	add rax, 1 << 30
	inc ecx
	cmp ecx, 4
	jb 1b
	mov cr3, rdi
	ret

// Every line of the image, without the code: loaded plain, stored through the C-bit.
encrypt:
	lea rsi, [rbx + CODE]
1:	cmp rsi, [rip + image_end]
	jae 3f
	xor ecx, ecx
2:	mov rax, [rsi + rcx]
	lea rdi, [rsi + r15]
	mov [rdi + rcx], rax
	add ecx, 8
	cmp ecx, 64
	jb 2b
	add rsi, 64
	jmp 1b
3:	ret

// A store to every line of memory (r13 = 1), or a load (0), but for the code: what lies below it in
// each range, then what lies above.
over_memory:
	lea r12, [rip + memory]
	call over_range
	add r12, 16
over_range:
	mov rsi, [r12]
	mov rdi, [r12 + 8]
	cmp rdi, rbx
	cmova rdi, rbx
	call over_lines
	lea rsi, [rbx + CODE]
	cmp rsi, [r12]
	cmovb rsi, [r12]
	mov rdi, [r12 + 8]
over_lines:
	add rsi, r15
	add rdi, r15
	test r13, r13
	jz 2f
1:	cmp rsi, rdi
	jae 3f
	mov [rsi], rsi
	add rsi, 64
	jmp 1b
2:	cmp rsi, rdi
	jae 3f
	mov rax, [rsi]
	add rsi, 64
	jmp 2b
3:	ret

tell:
	call sent
	lodsb
	test al, al
	jz 1f
	mov edx, ebp
	out dx, al
	jmp tell
1:	ret

// Until the serial port has nothing more to send.
sent:
	mov dx, SERIAL + 5
	in al, dx
	test al, 0x40
	jz sent
	ret

serial:		.byte 1, 0, 2, 0, 3, 0x83, 0, 1, 3, 3, 4, 3 // registers: no interrupts, 115,200 baud, 8 bits
tells:		.asciz "\n== worked probe\n"
shutdown:	.asciz "Shutdown"
	.balign 4096
tables:
	.org 0x7000

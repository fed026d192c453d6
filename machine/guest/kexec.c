// SPDX-License-Identifier: GPL-2.0-or-later
// Loads a kernel and starts it, in guests of the simulated machine. It does what kexec-tools do
// with -s, without their libraries: those of Debian link with Xen's.
//
//   kexec load KERNEL INITRAMFS COMMAND-LINE    for kexec
//   kexec crash KERNEL INITRAMFS COMMAND-LINE   for a crash
//   kexec start                                 what was loaded
//
// No C library: gcc -static -nostdlib -ffreestanding. System calls by their numbers of x86-64.

#define SYS_WRITE 1
#define SYS_OPEN 2
#define SYS_EXIT 60
#define SYS_REBOOT 169
#define SYS_KEXEC_FILE_LOAD 320

#define KEXEC_FILE_ON_CRASH 2
#define REBOOT_KEXEC 0x45584543

static long call(long number, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long value;

	__asm__ volatile("syscall"
			 : "=a"(value)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return value;
}

static unsigned long length(const char *text)
{
	unsigned long n = 0;

	while (text[n])
		n++;
	return n;
}

static int fails(const char *what, long error)
{
	char text[4] = {'0' + -error / 100 % 10, '0' + -error / 10 % 10, '0' + -error % 10, '\n'};

	call(SYS_WRITE, 2, (long)what, length(what), 0, 0);
	call(SYS_WRITE, 2, (long)": error ", 8, 0, 0);
	call(SYS_WRITE, 2, (long)text, 4, 0, 0);
	return 1;
}

static int load(char **files, long flags)
{
	long kernel = call(SYS_OPEN, (long)files[0], 0, 0, 0, 0);
	long initramfs = call(SYS_OPEN, (long)files[1], 0, 0, 0, 0);
	long done;

	if (kernel < 0)
		return fails(files[0], kernel);
	if (initramfs < 0)
		return fails(files[1], initramfs);
	done = call(SYS_KEXEC_FILE_LOAD, kernel, initramfs, length(files[2]) + 1, (long)files[2], flags);
	return done < 0 ? fails("kexec_file_load", done) : 0;
}

static int run(long count, char **arguments)
{
	if (count == 5 && arguments[1][0] == 'l')
		return load(arguments + 2, 0);
	if (count == 5 && arguments[1][0] == 'c')
		return load(arguments + 2, KEXEC_FILE_ON_CRASH);
	if (count == 2 && arguments[1][0] == 's')
		return fails("reboot", call(SYS_REBOOT, 0xfee1dead, 672274793, REBOOT_KEXEC, 0, 0));
	return fails("kexec: wrong arguments", 0);
}

__attribute__((used)) static void enter(long *stack)
{
	call(SYS_EXIT, run(stack[0], (char **)(stack + 1)), 0, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall enter\n");

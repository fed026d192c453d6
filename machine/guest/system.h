// SPDX-License-Identifier: GPL-2.0-or-later
// What programs of the simulated machine's guests have in place of a C library.
//
// gcc -static -nostdlib -ffreestanding. System calls by their numbers of x86-64.

#include <stdarg.h>

#define SYS_READ 0
#define SYS_WRITE 1
#define SYS_OPEN 2
#define SYS_CLOSE 3
#define SYS_LSEEK 8
#define SYS_MMAP 9
#define SYS_IOCTL 16
#define SYS_FORK 57
#define SYS_EXIT 60
#define SYS_WAIT4 61
#define SYS_UNAME 63
#define SYS_MKDIR 83
#define SYS_UNLINK 87
#define SYS_SYNC 162
#define SYS_MOUNT 165
#define SYS_REBOOT 169
#define SYS_SCHED_SETAFFINITY 203
#define SYS_SCHED_GETAFFINITY 204
#define SYS_KEXEC_LOAD 246

#define REBOOT_KEXEC 0x45584543
#define REBOOT_POWER_OFF 0x4321fedc

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

static inline long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long value;

	__asm__ volatile("syscall"
			 : "=a"(value)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return value;
}

static inline u64 length(const char *text)
{
	u64 n = 0;

	while (text[n])
		n++;
	return n;
}

static inline void copy(void *to, const void *from, u64 bytes)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

static inline void clear(void *to, u64 bytes)
{
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0) : "memory");
}

static inline int same(const char *text, const char *word)
{
	while (*word && *text == *word)
		text++, word++;
	return *text == *word;
}

// Words until a null pointer, in one write, so that lines of several CPUs are whole.
static inline void say(const char *word, ...)
{
	char line[512];
	u64 at = 0;
	va_list words;

	va_start(words, word);
	for (; word; word = va_arg(words, const char *)) {
		u64 bytes = length(word);

		if (at + bytes > sizeof(line))
			break;
		copy(line + at, word, bytes);
		at += bytes;
	}
	va_end(words);
	call(SYS_WRITE, 1, (long)line, at, 0, 0, 0);
}

static inline const char *decimal(long value)
{
	static char text[24];
	char *at = text + sizeof(text) - 1;
	u64 rest = value < 0 ? -value : value;

	do
		*--at = '0' + rest % 10;
	while (rest /= 10);
	if (value < 0)
		*--at = '-';
	return at;
}

static inline void *memory(u64 bytes)
{
	return (void *)call(SYS_MMAP, 0, bytes, 3, 0x22, -1, 0); // private, anonymous
}

static inline int failed(long value)
{
	return value < 0 && value > -4096;
}

// All of a file, in memory of its own; `bytes` is how many, or an error.
static inline u8 *content(const char *name, long *bytes)
{
	long file = call(SYS_OPEN, (long)name, 0, 0, 0, 0, 0), got;
	u64 room = 1 << 16;
	u8 *to;

	*bytes = file;
	if (file < 0)
		return 0;
	got = call(SYS_LSEEK, file, 0, 2, 0, 0, 0);
	if (got > 0)
		room = got;
	call(SYS_LSEEK, file, 0, 0, 0, 0, 0);
	to = memory(room + 1);
	*bytes = 0;
	while ((got = call(SYS_READ, file, (long)(to + *bytes), room - *bytes, 0, 0, 0)) > 0)
		*bytes += got;
	to[*bytes] = 0;
	call(SYS_CLOSE, file, 0, 0, 0, 0, 0);
	return to;
}

// SPDX-License-Identifier: GPL-2.0-or-later
// First process of guests that are asked what a kernel gets of what the one before has left it. What
// it reports are lines that begin with "==".
//
// With /next/path it leaves what it can to the next kernel and goes on to it as that says: kexec or
// crash, by kexec_file_load; jump, which comes back; or hibernation, which comes back, too. Without it
// tells what has come, and switches the machine off.

#include "system.h"

#define SYS_NANOSLEEP 35
#define SYS_SWAPON 167
#define SYS_GETDENTS64 217
#define SYS_ADD_KEY 248
#define SYS_KEYCTL 250
#define SYS_KEXEC_FILE_LOAD 320
#define TCSBRK 0x5409
#define KEYCTL_SEARCH 10
#define KEYCTL_READ 11
#define USER_KEYRING -4
#define ON_CRASH 2                // KEXEC_FILE_ON_CRASH
#define PRESERVE_CONTEXT 2        // KEXEC_PRESERVE_CONTEXT
#define X86_64 (62UL << 16)
#define MEGABYTE (1UL << 20)
#define PAGE 4096UL
#define KEYS "/sys/kernel/config/crash_dm_crypt_keys"
#define KEY_NAME "a-key"
#define KEY "sixteen bytes of"

static u64 hash(u64 n)
{
	return n * 0x9e3779b97f4a7c15 + 1;
}

static long write_to(const char *name, const char *text)
{
	long file = call(SYS_OPEN, (long)name, 1, 0, 0, 0, 0), done = file;

	if (file >= 0)
		done = call(SYS_WRITE, file, (long)text, length(text), 0, 0, 0);
	call(SYS_CLOSE, file, 0, 0, 0, 0, 0);
	return done;
}

static void mount(const char *kind, const char *at)
{
	call(SYS_MKDIR, (long)at, 0755, 0, 0, 0, 0);
	call(SYS_MOUNT, (long)kind, (long)at, (long)kind, 0, 0, 0);
}

static void go_to(u32 cpu)
{
	u64 mask = 1UL << cpu;

	call(SYS_SCHED_SETAFFINITY, 0, sizeof(mask), (long)&mask, 0, 0, 0);
}

static u64 number_of(const char *name)
{
	long bytes;
	const char *text = (const char *)content(name, &bytes);
	u64 number = 0;

	while (text && *text >= '0' && *text <= '9')
		number = number * 10 + *text++ - '0';
	return number;
}

static int begins(const char *text, const char *word)
{
	while (*word && *text == *word)
		text++, word++;
	return ! *word;
}

static const char *find(const u8 *text, long bytes, const char *word)
{
	for (long n = 0; text && n + (long)length(word) <= bytes; n++)
		if (begins((const char *)text + n, word))
			return (const char *)text + n;
	return 0;
}

static const char *hex(const u8 *from, u64 bytes)
{
	static char text[65];
	u64 n;

	for (n = 0; n < bytes && n < 32; n++) {
		text[2 * n] = "0123456789abcdef"[from[n] >> 4];
		text[2 * n + 1] = "0123456789abcdef"[from[n] & 15];
	}
	text[2 * n] = 0;
	return text;
}

// ------------------------------------------------------------------------ what has come

static void tell_file(const char *what, const char *name)
{
	long bytes;
	const u8 *text = content(name, &bytes);

	if (text && bytes > 0)
		say("== ", what, ": ", decimal(bytes), " bytes, ", hex(text, bytes < 16 ? bytes : 16),
		    "\n", (char *)0);
	else
		say("== ", what, ": none (", decimal(bytes), ")\n", (char *)0);
}

// All bytes of an ACPI table sum up to zero.
static void tell_acpi(const char *table)
{
	char name[] = "/sys/firmware/acpi/tables/0000";
	long bytes;
	const u8 *text;
	u8 sum = 0;

	copy(name + 26, table, 4);
	text = content(name, &bytes);
	for (long n = 0; n < bytes; n++)
		sum += text[n];
	say("== ACPI ", table, ": ", decimal(bytes), " bytes, ", (char *)0);
	say("sum ", decimal(sum), "\n", (char *)0);
}

static void tell_roms(void)
{
	long bytes;
	const u8 *text = content("/proc/iomem", &bytes);

	say("== ROMs: video ", find(text, bytes, "Video ROM") ? "seen" : "not seen", ", system ",
	    find(text, bytes, "System ROM") ? "seen" : "not seen", "\n", (char *)0);
}

static void tell_setup_data(void)
{
	char type[] = "/sys/kernel/boot_params/setup_data/0/type";
	char data[] = "/sys/kernel/boot_params/setup_data/0/data";
	long bytes;
	u8 *text;

	for (char n = '0'; n < '8'; n++) {
		type[35] = data[35] = n;
		text = content(type, &bytes);
		if (! text)
			break;
		text[bytes > 0 ? bytes - 1 : 0] = 0;
		say("== setup data ", (const char *)text, ": ", (char *)0);
		text = content(data, &bytes);
		say(decimal(bytes), " bytes ", hex(text, bytes > 24 ? 24 : bytes > 0 ? bytes : 0), "\n",
		    (char *)0);
	}
}

static void tell_folder(const char *what, const char *name)
{
	long folder = call(SYS_OPEN, (long)name, 0200000, 0, 0, 0, 0);
	u8 *entries = memory(PAGE);
	long bytes = call(SYS_GETDENTS64, folder, (long)entries, PAGE, 0, 0, 0);

	say("== ", what, ":", (char *)0);
	for (long at = 0; at < bytes; at += *(unsigned short *)(entries + at + 16))
		say(" ", (const char *)entries + at + 19, (char *)0);
	say("\n", (char *)0);
}

static void tell_pstore(void)
{
	long bytes;

	tell_folder("pstore", "/sys/fs/pstore");
	content("/sys/fs/pstore/console-ramoops-0", &bytes);
	say("== console of before: ", bytes > 0 ? "kept" : "lost", "\n", (char *)0);
}

static void tell_trace(void)
{
	long bytes;
	const char *name = "/sys/kernel/tracing/instances/kept/trace";
	const u8 *text = content(name, &bytes);

	say("== trace of before: ", find(text, bytes, "mark-of-before") ? "kept" : "lost", "\n",
	    (char *)0);
	tell_file("trace", "/sys/kernel/tracing/instances/kept/last_boot_info");
}

static void tell_keys(void)
{
	long done = write_to(KEYS "/restore", "1"), key, bytes;
	char value[64];

	if (done < 0)
		return;
	key = call(SYS_KEYCTL, KEYCTL_SEARCH, USER_KEYRING, (long)"user", (long)"cryptsetup:" KEY_NAME,
		   0, 0);
	bytes = key < 0 ? key : call(SYS_KEYCTL, KEYCTL_READ, key, (long)value, sizeof(value), 0, 0);
	say("== keys: restore ", decimal(done), ", ", (char *)0);
	say("key ", decimal(bytes), ", ", (char *)0);
	say(bytes == sizeof(KEY) - 1 && begins(value, KEY) ? "kept" : "lost", "\n", (char *)0);
}

static void tell_vmcore(void)
{
	long file = call(SYS_OPEN, (long)"/proc/vmcore", 0, 0, 0, 0, 0), bytes = 0, got;
	u8 *text = memory(64 * PAGE);

	if (file < 0) {
		say("== vmcore: none (", decimal(file), ")\n", (char *)0);
		return;
	}
	while (bytes < (long)(64 * PAGE) &&
	       (got = call(SYS_READ, file, (long)(text + bytes), 64 * PAGE - bytes, 0, 0, 0)) > 0)
		bytes += got;
	say("== vmcore: ", decimal(bytes), " bytes read, ", hex(text, 8), ", notes ",
	    find(text, bytes, "OSRELEASE=") ? "readable" : "not readable", "\n", (char *)0);
}

static const char *const WORDS[] = {
	"KHO", "kho", "ima:", "IMA", "crng", "Memory Encryption", "ramoops", "pstore", "DMI:", "RSDP",
	"vmcore", "software IO TLB", "oldmem", "reserve_mem", "setup:", "RAMDISK", "MPTABLE", "DMAR",
	"MP-table", "bootconfig", "Checksum", "checksum", "invalid", "Invalid", "crypt",
};

// Lines of the kernel's log with one of these words.
static void tell_log(void)
{
	long file = call(SYS_OPEN, (long)"/dev/kmsg", 04000, 0, 0, 0, 0), bytes;
	static char line[2048];

	while ((bytes = call(SYS_READ, file, (long)line, sizeof(line) - 1, 0, 0, 0)) > 0) {
		const char *text = find((u8 *)line, bytes, ";");

		line[bytes] = 0;
		for (u64 n = 0; text && n < sizeof(WORDS) / sizeof(*WORDS); n++)
			if (find((u8 *)line, bytes, WORDS[n])) {
				char *end = (char *)find((u8 *)line, bytes, "\n");

				if (end)
					*end = 0;
				say("== log ", text + 1, "\n", (char *)0);
				break;
			}
	}
}

static void tell(void)
{
	tell_log();
	tell_file("IMA's list", "/sys/kernel/security/ima/ascii_runtime_measurements");
	tell_file("IMA's count", "/sys/kernel/security/ima/runtime_measurements_count");
	tell_file("handover", "/sys/kernel/debug/kho/in/fdt");
	tell_file("boot_params", "/sys/kernel/boot_params/data");
	tell_setup_data();
	tell_roms();
	tell_acpi("FACP");
	tell_acpi("DSDT");
	tell_acpi("APIC");
	tell_file("DMI", "/sys/firmware/dmi/tables/DMI");
	tell_pstore();
	tell_trace();
	tell_vmcore();
	tell_keys();
}

// Memory that the kernel gives to a process still has, a while later, what that has stored there.
static void tell_memory(u64 bytes)
{
	u64 *page = memory(bytes), wrong = 0, wait[2] = {1, 0};

	for (u64 n = 0; n < bytes / 8; n += 8)
		page[n] = hash(n);
	call(SYS_NANOSLEEP, (long)wait, 0, 0, 0, 0, 0);
	for (u64 n = 0; n < bytes / 8; n += 8)
		wrong += page[n] != hash(n);
	say("== memory: wrong ", decimal(wrong), " of ", (char *)0);
	say(decimal(bytes / 64), " lines\n", (char *)0);
}

// --------------------------------------------------------------------------- what is left

static void leave_keys(void)
{
	long key = call(SYS_ADD_KEY, (long)"logon", (long)"cryptsetup:" KEY_NAME, (long)KEY,
			sizeof(KEY) - 1, USER_KEYRING, 0);

	if (key < 0)
		return;
	call(SYS_MKDIR, (long)KEYS "/0", 0755, 0, 0, 0, 0);
	say("== key ", decimal(write_to(KEYS "/0/description", "cryptsetup:" KEY_NAME)), "\n",
	    (char *)0);
}

static long load_file(u64 flags)
{
	long kernel = call(SYS_OPEN, (long)"/next/kernel", 0, 0, 0, 0, 0);
	long initramfs = call(SYS_OPEN, (long)"/next/initramfs", 0, 0, 0, 0, 0), bytes;
	const u8 *line = content("/next/command-line", &bytes);

	return call(SYS_KEXEC_FILE_LOAD, kernel, initramfs, bytes + 1, (long)line, flags, 0);
}

struct segment {
	const void *buffer;
	u64 bytes, to, size;
};

// Most of memory holds what is known, so that the image's place may, too. The image flushes caches, as
// any kernel would have in its time, and comes back.
static void jump_and_return(void)
{
	u64 bytes = number_of("/next/fill") * MEGABYTE, to = number_of("/next/at") * MEGABYTE;
	u64 *page = memory(bytes);
	u8 *program = memory(PAGE);
	struct segment segment = {program, 3, to, number_of("/next/size") * MEGABYTE};
	long done, wrong = 0;

	for (u64 n = 0; n < bytes / 8; n += 8)
		page[n] = hash(n);
	copy(program, "\x0f\x09\xc3", 3); // wbinvd; ret
	done = call(SYS_KEXEC_LOAD, to, 1, (long)&segment, PRESERVE_CONTEXT | X86_64, 0, 0);
	say("== jumps (loaded ", decimal(done), ")\n", (char *)0);
	call(SYS_IOCTL, 1, TCSBRK, 1, 0, 0, 0);
	done = call(SYS_REBOOT, 0xfee1dead, 672274793, REBOOT_KEXEC, 0, 0, 0);
	for (u64 n = 0; n < bytes / 8; n += 8)
		wrong += page[n] != hash(n);
	say("== back ", decimal(done), ", wrong ", (char *)0);
	say(decimal(wrong), " of ", (char *)0);
	say(decimal(bytes / 64), " lines\n", (char *)0);
}

#define SWAP "/dev/ram0"

// As mkswap would make it: union swap_header of include/linux/swap.h.
static long make_swap(u32 pages)
{
	u8 *header = memory(PAGE);
	long file = call(SYS_OPEN, (long)SWAP, 1, 0, 0, 0, 0);
	u32 version = 1, last = pages - 1;

	copy(header + 1024, &version, 4);
	copy(header + 1028, &last, 4);
	copy(header + PAGE - 10, "SWAPSPACE2", 10);
	call(SYS_WRITE, file, (long)header, PAGE, 0, 0, 0);
	call(SYS_CLOSE, file, 0, 0, 0, 0, 0);
	return call(SYS_SWAPON, (long)SWAP, 0, 0, 0, 0, 0);
}

// An image is written to memory, and the machine goes on with it at once.
static void hibernate(void)
{
	u64 bytes = number_of("/next/fill") * MEGABYTE, *page = memory(bytes);
	long wrong = 0, done;

	for (u64 n = 0; n < bytes / 8; n += 8)
		page[n] = hash(n);
	say("== swap ", decimal(make_swap(number_of("/next/size") * MEGABYTE / PAGE)), "\n", (char *)0);
	write_to("/sys/power/image_size", "0");
	write_to("/sys/power/disk", "test_resume");
	say("== hibernates\n", (char *)0);
	call(SYS_IOCTL, 1, TCSBRK, 1, 0, 0, 0);
	done = write_to("/sys/power/state", "disk");
	for (u64 n = 0; n < bytes / 8; n += 8)
		wrong += page[n] != hash(n);
	say("== back ", decimal(done), ", wrong ", (char *)0);
	say(decimal(wrong), " of ", (char *)0);
	say(decimal(bytes / 64), " lines\n", (char *)0);
}

// A block of memory goes and comes back.
static void change_memory(void)
{
	char state[] = "/sys/devices/system/memory/memory0/state";
	long off, on;

	for (char n = '7'; n > '0'; n--) {
		state[33] = n;
		off = write_to(state, "offline");
		on = off < 0 ? off : write_to(state, "online");
		say("== memory block off ", decimal(off), ", ", (char *)0);
		say("on ", decimal(on), "\n", (char *)0);
		if (on >= 0)
			break;
	}
}

static void leave(const char *path)
{
	int crash = same(path, "crash");
	long done;

	write_to("/sys/kernel/tracing/instances/kept/trace_marker", "mark-of-before");
	if (same(path, "jump")) {
		jump_and_return();
		return;
	}
	if (same(path, "hibernation")) {
		hibernate();
		return;
	}
	if (crash) {
		leave_keys();
		go_to(1); // which does not flush in a crash
		tell_memory(number_of("/next/fill") * MEGABYTE);
		go_to(0);
	}
	done = load_file(crash ? ON_CRASH : 0);
	if (done == 0 && crash && number_of("/next/reuse")) {
		say("== reuse ", decimal(write_to(KEYS "/reuse", "1")), "\n", (char *)0);
		done = load_file(ON_CRASH);
	}
	if (done == 0 && number_of("/next/hotplug"))
		change_memory();
	say("== leaves by ", path, " (loaded ", decimal(done), ")\n", (char *)0);
	call(SYS_IOCTL, 1, TCSBRK, 1, 0, 0, 0); // until the console has written it
	if (crash)
		write_to("/proc/sysrq-trigger", "c");
	else
		call(SYS_REBOOT, 0xfee1dead, 672274793, REBOOT_KEXEC, 0, 0, 0);
	say("== no way on\n", (char *)0);
}

static void run(void)
{
	long bytes;
	const char *path;

	mount("proc", "/proc");
	mount("sysfs", "/sys");
	mount("devtmpfs", "/dev");
	mount("securityfs", "/sys/kernel/security");
	mount("debugfs", "/sys/kernel/debug");
	mount("tracefs", "/sys/kernel/tracing");
	mount("configfs", "/sys/kernel/config");
	mount("pstore", "/sys/fs/pstore");
	mount("tmpfs", "/tmp");
	path = (const char *)content("/next/path", &bytes);
	say(path ? "== first\n" : "== second\n", (char *)0);
	tell();
	if (path)
		leave(path);
	else
		tell_memory(number_of("/fill") * MEGABYTE);
	say("== end\n", (char *)0);
	call(SYS_SYNC, 0, 0, 0, 0, 0, 0);
	call(SYS_IOCTL, 1, TCSBRK, 1, 0, 0, 0);
	call(SYS_REBOOT, 0xfee1dead, 672274793, REBOOT_POWER_OFF, 0, 0, 0);
}

__attribute__((used)) static void enter(void)
{
	run();
	for (;;)
		;
}

__asm__(".globl _start\n_start:\n\tand $-16, %rsp\n\tcall enter\n");

// SPDX-License-Identifier: GPL-2.0-or-later
// First process of the guests of the simulated machine. What it reports are lines that begin with
// "==". It lets all CPUs work with memory for a while. With /next/0/path it then loads a kernel, by
// kexec_load and so without digests of it all, and goes on to it as that says, by kexec or crash.
// Without it switches the machine off.
//
// Beside path are probe, or kernel, initramfs and command-line. There may be several such folders,
// for the machine may go on from here in several ways: it says in which.

#include "system.h"

#define PAGE 4096UL
#define PROBE_IMAGE (4UL << 20)   // what the probe is to have for its own
#define TCSBRK 0x5409
#define CRASH 1                   // KEXEC_ON_CRASH
#define E820_RAM 1
#define MEGABYTE (1UL << 20)

struct segment {
	const void *buffer;
	u64 bytes, to, size;
};

struct range {
	u64 start, end; // exclusive
};

struct probe { // machine/guest/probe.S
	u64 jump, encrypts, wait, image_end;
	struct range memory[2];
};

#define WHICH_WAY 0x57415953      // a leaf of CPUID: BX_CACHES_VARIANT_LEAF of machine/patches

// A file of /next for the way in which this machine goes on.
static const char *next(const char *name)
{
	static char path[64] = "/next/0/";

	copy(path + 8, name, length(name) + 1);
	return path;
}

static void choose_way(void)
{
	u32 way = WHICH_WAY, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(way), "=b"(b), "+c"(c), "=d"(d) : : "memory");
	((char *)next(""))[6] += way;
}

static struct {
	char name[6][65];
} system_name;

static const char *release(void)
{
	return system_name.name[2];
}

static u32 online(void)
{
	u64 mask[16] = {0};
	long bytes = call(SYS_SCHED_GETAFFINITY, 0, sizeof(mask), (long)mask, 0, 0, 0);
	u32 cpus = 0;

	for (long n = 0; n < bytes * 8; n++)
		cpus += mask[n / 64] >> n % 64 & 1;
	return cpus;
}

static void go_to(u32 cpu)
{
	u64 mask = 1UL << cpu;

	call(SYS_SCHED_SETAFFINITY, 0, sizeof(mask), (long)&mask, 0, 0, 0);
}

// ------------------------------------------------------------------------------- work

#define WORK_BYTES (2UL << 20)

// Pages of processes and of files are written and read, and freed.
static int worked(u32 cpu)
{
	char name[] = "/tmp/a";
	u64 *page = memory(WORK_BYTES), n, wrong = 0;
	long file;

	name[5] += cpu;
	for (n = 0; n < WORK_BYTES / 8; n += 4)
		page[n] = n * 0x9e3779b97f4a7c15 + cpu;
	file = call(SYS_OPEN, (long)name, 0102, 0600, 0, 0, 0); // made if it is not there
	call(SYS_WRITE, file, (long)page, WORK_BYTES / 2, 0, 0, 0);
	call(SYS_LSEEK, file, 0, 0, 0, 0, 0);
	call(SYS_READ, file, (long)page, WORK_BYTES / 2, 0, 0, 0);
	call(SYS_CLOSE, file, 0, 0, 0, 0, 0);
	call(SYS_UNLINK, (long)name, 0, 0, 0, 0, 0);
	for (n = 0; n < WORK_BYTES / 8; n += 4)
		wrong += page[n] != n * 0x9e3779b97f4a7c15 + cpu;
	if (wrong)
		say("== files differ\n", (char *)0);
	return 0;
}

static void work(u32 cpus)
{
	for (u32 cpu = 0; cpu < cpus; cpu++)
		if (call(SYS_FORK, 0, 0, 0, 0, 0, 0) == 0) {
			go_to(cpu);
			call(SYS_EXIT, worked(cpu), 0, 0, 0, 0, 0);
		}
	while (call(SYS_WAIT4, -1, 0, 0, 0, 0, 0) > 0)
		;
}

// --------------------------------------------------------------------------- what CPUs are

static const char *eight_digits(u32 value)
{
	static char texts[8][9];
	static u32 next;
	char *text = texts[next++ % 8];

	for (u32 n = 0; n < 8; n++)
		text[n] = "0123456789abcdef"[value >> (28 - 4 * n) & 15];
	return text;
}

static u32 tell_leaf(u32 leaf, u32 subleaf)
{
	u32 a = leaf, b, c = subleaf, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	say("   0x", eight_digits(leaf), " 0x0", decimal(subleaf), ": eax=0x", eight_digits(a),
	    " ebx=0x", eight_digits(b), " ecx=0x", eight_digits(c), " edx=0x", eight_digits(d),
	    "\n", (char *)0);
	return a;
}

// As `cpuid -1 -r` prints them.
static void tell_cpuid(void)
{
	say("CPU:\n", (char *)0);
	for (u32 first = 0; ; first = 0x80000000) {
		u32 last = tell_leaf(first, 0);

		for (u32 leaf = first + 1; leaf <= last && leaf < first + 0x30; leaf++)
			tell_leaf(leaf, 0);
		if (first)
			break;
	}
	for (u32 cache = 1; cache < 4; cache++)
		tell_leaf(0x8000001d, cache);
}

// ------------------------------------------------------------------------ memory there is

static u64 hexadecimal(const char **text)
{
	u64 value = 0;

	for (;; ++*text) {
		u8 c = **text;

		if (c >= '0' && c <= '9')
			value = value * 16 + c - '0';
		else if (c >= 'a' && c <= 'f')
			value = value * 16 + c - 'a' + 10;
		else
			return value;
	}
}

// The last entry of /proc/iomem with this name; "" if there is none.
static struct range iomem(const char *name)
{
	long bytes;
	const char *at = (const char *)content("/proc/iomem", &bytes);
	struct range range = {0, 0};

	while (at && *at) {
		u64 start, end;

		while (*at == ' ')
			at++;
		start = hexadecimal(&at);
		at++;
		end = hexadecimal(&at) + 1;
		at += 3; // " : "
		const char *word = name;
		while (*word && *at == *word)
			at++, word++;
		if (! *word && *at == '\n')
			range = (struct range){start, end};
		while (*at && *at != '\n')
			at++;
		at += *at == '\n';
	}
	return range;
}

// -------------------------------------------------------------------------------- loading

static long load(u64 entry, struct segment *segments, u32 count, u64 flags)
{
	long done;

	for (u32 n = 0; n < count; n++) {
		segments[n].size = (segments[n].size + PAGE - 1) & -PAGE;
		if (segments[n].bytes > segments[n].size)
			segments[n].bytes = segments[n].size;
	}
	done = call(SYS_KEXEC_LOAD, entry, count, (long)segments, flags | 62 << 16, 0, 0);
	if (done < 0)
		say("== cannot load: error ", decimal(done), "\n", (char *)0);
	return done;
}

static long load_probe(struct range place, struct range all, u64 flags)
{
	long bytes;
	struct probe *probe = (struct probe *)content(next("probe"), &bytes);
	u64 size = place.end - place.start;

	if (size > PROBE_IMAGE)
		size = PROBE_IMAGE;
	probe->image_end = place.start + size;
	probe->memory[0] = all;
	struct segment segment = {probe, bytes, place.start, size};
	return load(place.start, &segment, 1, flags);
}

// Documentation/arch/x86/boot.rst and zero-page.rst of linux.
struct loader { // what a kernel is given beside itself
	u8 jump[64];
	u8 command_line[2048];
	u8 zero_page[PAGE] __attribute__((aligned(4096)));
};

static u64 number(const u8 *from, u32 bytes)
{
	u64 value = 0;

	copy(&value, from, bytes);
	return value;
}

static void put(u8 *to, u64 value, u32 bytes)
{
	copy(to, &value, bytes);
}

// A crash kernel may use nothing but its reservation and the first 640 KB.
static void restrict_memory(u8 *zero_page, struct range place)
{
	u8 *table = zero_page + 0x2d0;
	u32 kept = 0, entries = zero_page[0x1e8];

	for (u32 n = 0; n < entries; n++) {
		u8 *entry = table + n * 20;

		if (number(entry, 8) >= MEGABYTE && number(entry + 16, 4) == E820_RAM)
			continue;
		copy(table + kept++ * 20, entry, 20);
	}
	put(table + kept * 20, place.start, 8);
	put(table + kept * 20 + 8, place.end - place.start, 8);
	put(table + kept * 20 + 16, E820_RAM, 4);
	zero_page[0x1e8] = kept + 1;
}

static long load_kernel(struct range place, u64 flags)
{
	long kernel_bytes, initramfs_bytes, line_bytes, page_bytes;
	u8 *kernel = content(next("kernel"), &kernel_bytes);
	u8 *initramfs = content(next("initramfs"), &initramfs_bytes);
	u8 *line = content(next("command-line"), &line_bytes);
	u8 *running = content("/sys/kernel/boot_params/data", &page_bytes);
	struct loader *loader = memory(sizeof(struct loader));
	u64 header, setup, to, initramfs_to, loader_to;

	if (! kernel || ! initramfs || ! line || page_bytes != PAGE) {
		say("== cannot load: a file is missing\n", (char *)0);
		return -1;
	}
	header = 0x202 + kernel[0x201];
	setup = (kernel[0x1f1] + 1) * 512UL;
	to = flags & CRASH ? (place.start + 16 * MEGABYTE) & -(16 * MEGABYTE) : number(kernel + 0x258, 8);
	initramfs_to = (place.end - initramfs_bytes - MEGABYTE) & -PAGE;
	loader_to = initramfs_to - 16 * PAGE;

	copy(loader->zero_page, running, PAGE);
	copy(loader->zero_page + 0x1f1, kernel + 0x1f1, header - 0x1f1);
	copy(loader->command_line, line, line_bytes);
	loader->zero_page[0x210] = 0xff;            // an unknown loader
	put(loader->zero_page + 0x214, to, 4);      // code32_start
	put(loader->zero_page + 0x218, initramfs_to, 4);
	put(loader->zero_page + 0x21c, initramfs_bytes, 4);
	put(loader->zero_page + 0x228, loader_to + 64, 4);
	put(loader->zero_page + 0x250, 0, 8);       // setup_data
	if (flags & CRASH)
		restrict_memory(loader->zero_page, place);

	// movabs rsi, zero page; movabs rax, entry; jmp rax
	copy(loader->jump, "\x48\xbe", 2);
	put(loader->jump + 2, loader_to + PAGE, 8);
	copy(loader->jump + 10, "\x48\xb8", 2);
	put(loader->jump + 12, to + 0x200, 8);
	copy(loader->jump + 20, "\xff\xe0", 2);

	struct segment segments[] = {
		{kernel + setup, kernel_bytes - setup, to, number(kernel + 0x260, 4)}, // init_size
		{loader, sizeof(*loader), loader_to, sizeof(*loader)},
		{initramfs, initramfs_bytes, initramfs_to, initramfs_bytes},
	};
	return load(loader_to, segments, 3, flags);
}

static void power_off(void)
{
	call(SYS_SYNC, 0, 0, 0, 0, 0, 0);
	call(SYS_IOCTL, 1, TCSBRK, 1, 0, 0, 0);
	call(SYS_REBOOT, 0xfee1dead, 672274793, REBOOT_POWER_OFF, 0, 0, 0);
}

static void jump(const char *path, u32 cpus)
{
	int crash = same(path, "crash");
	struct range all = iomem("System RAM"), place = all;
	long bytes;

	all.start = MEGABYTE;
	if (crash) {
		all = place = iomem("Crash kernel");
		if (! place.end) {
			say("== cannot load: no memory is reserved for a crash\n", (char *)0);
			return;
		}
	}
	else
		place.start = 16 * MEGABYTE;
	go_to(cpus - 1); // what loading leaves in caches is another CPU's than the jumping one's
	content(next("probe"), &bytes);
	if ((bytes > 0 ? load_probe(place, all, crash) : load_kernel(place, crash)) < 0)
		return;
	go_to(0);
	say(crash ? "== crash " : "== jump ", release(), "\n", (char *)0);
	call(SYS_IOCTL, 1, TCSBRK, 1, 0, 0, 0); // until the console has written it
	if (crash) {
		long trigger = call(SYS_OPEN, (long)"/proc/sysrq-trigger", 1, 0, 0, 0, 0);

		call(SYS_WRITE, trigger, (long)"c", 1, 0, 0, 0);
	}
	else
		call(SYS_REBOOT, 0xfee1dead, 672274793, REBOOT_KEXEC, 0, 0, 0);
	say("== no way on\n", (char *)0);
}

static void run(void)
{
	u32 cpus = online();
	long bytes;
	char *path;

	call(SYS_MKDIR, (long)"/proc", 0755, 0, 0, 0, 0);
	call(SYS_MKDIR, (long)"/sys", 0755, 0, 0, 0, 0);
	call(SYS_MKDIR, (long)"/tmp", 0755, 0, 0, 0, 0);
	call(SYS_MOUNT, (long)"proc", (long)"/proc", (long)"proc", 0, 0, 0);
	call(SYS_MOUNT, (long)"sysfs", (long)"/sys", (long)"sysfs", 0, 0, 0);
	call(SYS_UNAME, (long)&system_name, 0, 0, 0, 0, 0);
	say("== up ", release(), " online ", decimal(cpus), "\n", (char *)0);
	path = (char *)content(next("path"), &bytes);
	if (path) {
		go_to(0); // leaf 1 has the number of the CPU that is asked
		tell_cpuid();
	}
	work(cpus);
	if (path) {
		choose_way();
		jump((char *)content(next("path"), &bytes), cpus);
	}
	else
		say("== worked ", release(), "\n", (char *)0);
	power_off();
}

__attribute__((used)) static void enter(void)
{
	run();
	for (;;)
		;
}

__asm__(".globl _start\n_start:\n\tand $-16, %rsp\n\tcall enter\n");

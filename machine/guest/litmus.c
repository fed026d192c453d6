// SPDX-License-Identifier: GPL-2.0-or-later
// First process of a guest that asks its machine with the kit of src/staleline/litmus: loads
// /module with /options, writes each line of /tests to the module's file, and copies what it answers
// to the console. Then it switches the machine off.

#include "system.h"

#define SYS_INIT_MODULE 175
#define SYS_DELETE_MODULE 176
#define ASKED "/proc/staleline_litmus"

static void answer(void)
{
	long bytes;
	const u8 *text = content(ASKED, &bytes);

	call(SYS_WRITE, 1, (long)text, bytes, 0, 0, 0);
}

static void ask(const char *line, u64 bytes)
{
	long file = call(SYS_OPEN, (long)ASKED, 1, 0, 0, 0, 0);
	long done = call(SYS_WRITE, file, (long)line, bytes, 0, 0, 0);

	call(SYS_CLOSE, file, 0, 0, 0, 0, 0);
	answer();
	if (failed(done))
		say("== asked in vain: error ", decimal(done), "\n", (char *)0);
}

static void ask_all(const char *line)
{
	while (*line) {
		u64 bytes = 0;

		while (line[bytes] && line[bytes] != '\n')
			bytes++;
		if (bytes && *line != '#')
			ask(line, bytes);
		line += bytes + (line[bytes] == '\n');
	}
}

static void run(void)
{
	long module_bytes, options_bytes, tests_bytes, done;
	u8 *module, *options, *tests;

	call(SYS_MKDIR, (long)"/proc", 0755, 0, 0, 0, 0);
	call(SYS_MOUNT, (long)"proc", (long)"/proc", (long)"proc", 0, 0, 0);
	module = content("/module", &module_bytes);
	options = content("/options", &options_bytes);
	tests = content("/tests", &tests_bytes);
	say("== asks\n", (char *)0);
	done = call(SYS_INIT_MODULE, (long)module, module_bytes, (long)options, 0, 0, 0);
	if (failed(done))
		say("== cannot load the module: error ", decimal(done), "\n", (char *)0);
	else
		ask_all((const char *)tests);
	done = call(SYS_DELETE_MODULE, (long)"staleline_litmus", 0, 0, 0, 0, 0);
	say("== asked ", decimal(done), "\n", (char *)0);
	call(SYS_IOCTL, 1, 0x5409, 1, 0, 0, 0); // TCSBRK: until the console has written it
	call(SYS_REBOOT, 0xfee1dead, 672274793, REBOOT_POWER_OFF, 0, 0, 0);
}

__attribute__((used)) static void enter(void)
{
	run();
	for (;;)
		;
}

__asm__(".globl _start\n_start:\n\tand $-16, %rsp\n\tcall enter\n");

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A plugin for QEMU's software emulation: one line for each WBINVD that a guest executes,
 * with the virtual CPU and the address of the instruction.
 *
 * QEMU installs no header for plugins before 8.2, so the few functions used are declared here,
 * as its documentation describes them (docs/devel/tcg-plugins). PLUGIN_API is the version of the
 * interface that the QEMU in question offers: 1 before 8.2, 2 and later from then on.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WBINVD_SIZE 2 /* 0f 09; no kernel puts a prefix before it */
#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;
typedef uint64_t plugin_id;

extern void qemu_plugin_outs(const char *text);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block,
							size_t index);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);
extern char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *instruction);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
						  void (*callback)(plugin_id,
								   struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *instruction,
						   void (*callback)(unsigned int, void *),
						   int flags, void *data);

EXPORT int qemu_plugin_version = PLUGIN_API;

static void executed(unsigned int cpu, void *address)
{
	char line[64];

	snprintf(line, sizeof(line), "WBINVD cpu=%u address=0x%" PRIxPTR "\n", cpu,
		 (uintptr_t)address);
	qemu_plugin_outs(line);
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
	size_t count = qemu_plugin_tb_n_insns(block);

	for (size_t i = 0; i < count; i++) {
		struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
		uintptr_t address = qemu_plugin_insn_vaddr(instruction);
		char *text;

		/* Disassembling takes most of the time of translating: spare it the others. */
		if (qemu_plugin_insn_size(instruction) != WBINVD_SIZE)
			continue;
		text = qemu_plugin_insn_disas(instruction);
		if (text && strncmp(text, "wbinvd", 6) == 0)
			qemu_plugin_register_vcpu_insn_exec_cb(instruction, executed, 0,
							       (void *)address);
		free(text);
	}
}

EXPORT int qemu_plugin_install(plugin_id id, const struct qemu_info_t *info, int argc, char **argv)
{
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}

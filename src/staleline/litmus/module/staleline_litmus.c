// SPDX-License-Identifier: GPL-2.0
/*
 * Litmus tests for the two aliases (C-bit, plain) that AMD's SME gives a line.
 *
 * Lines written to /proc/staleline_litmus are asked, and reading it gives the
 * answers to the last one, a JSON object each:
 *
 *   staleline-litmus 1     the version of the language; tells the machine
 *   NAME: STEP, STEP ... ? OUTCOME CONDITION ... ? OUTCOME ...
 *   cost                   how long WBINVD takes
 *   end                    the sums
 *
 * STEP is CPU OPERATION [ALIAS] [OPERAND]: "x store a p1", "y load b r1",
 * "y clflush a", "x wbinvd". CONDITION is r1==p2, r1!=p2, r1==r2 or r1!=r2. An
 * outcome whose name begins with * is one that coherent aliases cannot give.
 * Each program runs with (a, b) = (cbit, plain) and the other way round, and
 * once for each relation of the CPUs x and y that this machine has.
 *
 * Only pages that the module allocated are touched.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cc_platform.h>
#include <linux/cpu.h>
#include <linux/ctype.h>
#include <linux/io.h>
#include <linux/ktime.h>
#include <linux/mem_encrypt.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/reboot.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/topology.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>
#include <linux/vmalloc.h>
#include <asm/hypervisor.h>
#include <asm/microcode.h>	/* brings cpuid(), wherever it lies */
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/smp.h>
#include <asm/special_insns.h>

#define LANGUAGE	1
#define NAME		"staleline_litmus"

#define PAGES		4
#define LINES		64	/* at a stride that next-line prefetch misses */
#define STRIDE		(PAGES * PAGE_SIZE / LINES)
#define WORDS		8
#define REGISTERS	4
#define PATTERNS	8
#define STEPS		32
#define OUTCOMES	4
#define CONDITIONS	3
#define COST_TRIES	8
#define INPUT		2048
#define OUTPUT		(64 << 10)
#define EVICT_KB_MAX	(512U << 10)

#define CACHES_LEAF	0x8000001d	/* AMD APM volume 3, E.4 */
#define SME_LEAF	0x8000001f
#define SYSCFG		0xc0010010	/* AMD APM volume 2, 3.2.1 and 7.10 */
#define SYSCFG_SME	BIT_ULL(23)
#define SYSCFG_SNP	BIT_ULL(24)

static uint tries = 32;
module_param(tries, uint, 0444);
MODULE_PARM_DESC(tries, "how often each test runs, on 64 lines each time");
static uint evict_kb;
module_param(evict_kb, uint, 0444);
MODULE_PARM_DESC(evict_kb, "buffer that evicts (0: twice an L3 and 4 MB)");

enum { X, Y, CPUS };
enum { PLAIN, CBIT, A, B };
enum { STORE, NTSTORE, LOAD, CLFLUSH, CLWB, WBINVD, WBNOINVD, EVICT, SETTLE };

static const char *const cpu_names[] = { "x", "y" };
static const char *const alias_names[] = { "plain", "cbit", "a", "b" };

static const struct {
	const char *name;
	bool alias;
	char operand;
} operations[] = {
	[STORE]	   = { "store", true, 'p' },
	[NTSTORE]  = { "ntstore", true, 'p' },
	[LOAD]	   = { "load", true, 'r' },
	[CLFLUSH]  = { "clflush", true },
	[CLWB]	   = { "clwb", true },
	[WBINVD]   = { "wbinvd" },
	[WBNOINVD] = { "wbnoinvd" },
	[EVICT]	   = { "evict" },
};

struct step {
	u8 cpu, operation, alias, number;
};

struct condition {
	u8 reg, differs, kind, number;
};

struct outcome {
	char name[20];
	bool starred;
	u8 conditions;
	struct condition condition[CONDITIONS];
};

struct program {
	char name[40];
	u8 steps, outcomes;
	struct step step[STEPS];
	struct outcome outcome[OUTCOMES];
};

/* What one CPU does to all lines. */
struct work {
	struct step step;
	u64 attempt;
	unsigned int destroyed;
};

struct cost {
	unsigned int dirty_kb;
	u64 ns;
};

struct place {
	u32 apic, l3_shift;
};

static DEFINE_MUTEX(lock);
static const char *refused;
static u64 cbit, syscfg;
static u32 leaf[4];
static struct page *pages[PAGES];
static void *map[2];		/* by alias */
static u64 (*registers)[LINES][WORDS];
static void *evict_buffer;
static char *output;
static size_t used;
static bool stopping;
static u64 attempts;		/* no value is ever stored twice */
static u64 tests, answers, starred, destroyed;	/* sums */

/* JSON, with ' in place of its quotation marks. */
__printf(1, 2) static void say(const char *format, ...)
{
	char *from = output + used;
	va_list arguments;

	va_start(arguments, format);
	used += vscnprintf(from, OUTPUT - used, format, arguments);
	va_end(arguments);
	strreplace(from, '\'', '"');
}

static const char *truth(bool is)
{
	return is ? "true" : "false";
}

/* ---- what CPUs do to lines ---- */

static u64 value(unsigned int pattern, u64 attempt, unsigned int line, unsigned int word)
{
	u64 z = ((attempt << 24 | line << 8 | pattern << 3 | word) + 1) * 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	return z ^ (z >> 27);
}

static bool holds_pattern(const u64 *words, const struct work *w, unsigned int line)
{
	unsigned int k;

	for (k = 0; k < WORDS; k++)
		if (words[k] != value(w->step.number, w->attempt, line, k))
			return false;
	return true;
}

static void flush_alias(unsigned int alias)
{
	unsigned int i;

	mb();	/* earlier stores are in the caches */
	for (i = 0; i < PAGES * PAGE_SIZE; i += L1_CACHE_BYTES)
		clflush(map[alias] + i);
	mb();	/* CLFLUSH is done */
}

static void do_line(struct work *w, unsigned int line)
{
	const struct step *s = &w->step;
	u64 *p = map[s->alias] + line * STRIDE;
	unsigned int k;

	switch (s->operation) {
	case STORE:
		for (k = 0; k < WORDS; k++)
			WRITE_ONCE(p[k], value(s->number, w->attempt, line, k));
		break;
	case NTSTORE:
		for (k = 0; k < WORDS; k++)
			asm volatile("movnti %1, %0" : "=m"(p[k]) :
				     "r"(value(s->number, w->attempt, line, k)));
		break;
	case LOAD:
		for (k = 0; k < WORDS; k++)
			registers[s->number][line][k] = READ_ONCE(p[k]);
		break;
	case CLFLUSH:
		clflush(p);
		break;
	case CLWB:
		clwb(p);
		break;
	case SETTLE:
		w->destroyed += !holds_pattern(p, w, line);
		break;
	}
}

static void do_step(void *info)
{
	struct work *w = info;
	unsigned int line, k;
	u64 sum = 0;

	switch (w->step.operation) {
	case WBINVD:
		asm volatile("wbinvd" ::: "memory");
		break;
	case WBNOINVD:
		asm volatile(".byte 0xf3, 0x0f, 0x09" ::: "memory");
		break;
	case EVICT:
		for (k = 0; k < evict_kb * 1024; k += L1_CACHE_BYTES)
			sum += READ_ONCE(*(u64 *)(evict_buffer + k));
		OPTIMIZER_HIDE_VAR(sum);
		break;
	case SETTLE:
		/* What was stored last goes to memory first, what is stale last. */
		flush_alias(w->step.alias);
		flush_alias(!w->step.alias);
		flush_alias(w->step.alias);
		fallthrough;
	default:
		for (line = 0; line < LINES; line++)
			do_line(w, line);
	}
	mb();	/* the other CPU's step is later than this one */
}

/* ---- the language ---- */

static int word_in(const char *word, const char *const *names, int n)
{
	while (n-- > 0)
		if (word && !strcmp(word, names[n]))
			return n;
	return -1;
}

static char *next_word(char **rest)
{
	char *word;

	do
		word = strsep(rest, " \t");
	while (word && !*word);
	return word;
}

static bool is_number(const char *word, char kind, unsigned int limit, u8 *number)
{
	if (!word || word[0] != kind || !isdigit(word[1]) || word[2])
		return false;
	*number = word[1] - '0';
	return *number < limit;
}

static bool is_name(const char *name, size_t room)
{
	if (!*name || strlen(name) >= room)
		return false;
	for (; *name; name++)
		if (!isalnum(*name) && *name != '-')
			return false;
	return true;
}

static const char *parse_step(char *text, struct step *s)
{
	char *word, kind;
	int cpu, i;

	cpu = word_in(next_word(&text), cpu_names, CPUS);
	if (cpu < 0)
		return "a step begins with x or y";
	s->cpu = cpu;
	word = next_word(&text);
	for (i = 0; i < ARRAY_SIZE(operations); i++)
		if (word && !strcmp(word, operations[i].name))
			break;
	if (i == ARRAY_SIZE(operations))
		return "there is no such operation";
	s->operation = i;
	if (operations[i].alias) {
		int alias = word_in(next_word(&text), alias_names, ARRAY_SIZE(alias_names));

		if (alias < 0)
			return "an alias is a, b, plain or cbit";
		s->alias = alias;
	}
	kind = operations[i].operand;
	if (kind && !is_number(next_word(&text), kind, kind == 'r' ? REGISTERS : PATTERNS,
			       &s->number))
		return "stores have p0 to p7, loads r0 to r3";
	return next_word(&text) ? "a step has more words than it may" : NULL;
}

static const char *parse_outcome(char *text, struct outcome *o)
{
	char *word = next_word(&text);

	if (!word)
		return "an outcome has no name";
	o->starred = *word == '*';
	word += o->starred;
	if (!is_name(word, sizeof(o->name)))
		return "an outcome's name is letters, digits and -";
	strscpy(o->name, word, sizeof(o->name));
	while ((word = next_word(&text))) {
		struct condition *c = &o->condition[o->conditions];

		if (o->conditions++ == CONDITIONS || strlen(word) != 6 || word[3] != '=' ||
		    !strchr("=!", word[2]))
			return "a condition is r1==p2, r1!=p2, r1==r2 or r1!=r2, at most three";
		c->differs = word[2] == '!';
		c->kind = word[4];
		word[2] = '\0';
		if (!is_number(word, 'r', REGISTERS, &c->reg) ||
		    !is_number(word + 4, c->kind == 'r' ? 'r' : 'p',
			       c->kind == 'r' ? REGISTERS : PATTERNS, &c->number))
			return "a condition compares r0 to r3 with p0 to p7 or r0 to r3";
	}
	return o->conditions ? NULL : "an outcome has no condition";
}

static const char *parse(char *text, struct program *p)
{
	char *steps = strsep(&text, "?"), *name = strsep(&steps, ":"), *part;
	const char *error;

	if (!steps || !is_name(name, sizeof(p->name)))
		return "a program begins with its name and a colon";
	strscpy(p->name, name, sizeof(p->name));
	while ((part = strsep(&steps, ","))) {
		if (p->steps == STEPS)
			return "a program has at most 32 steps";
		error = parse_step(part, &p->step[p->steps++]);
		if (error)
			return error;
	}
	while ((part = strsep(&text, "?"))) {
		if (p->outcomes == OUTCOMES)
			return "a program has at most 4 outcomes";
		error = parse_outcome(part, &p->outcome[p->outcomes++]);
		if (error)
			return error;
	}
	return p->outcomes ? NULL : "a program has no outcome";
}

static bool has(const struct program *p, u8 operation)
{
	unsigned int i;

	for (i = 0; i < p->steps; i++)
		if (p->step[i].operation == operation)
			return true;
	return false;
}

static bool is_symbolic(const struct program *p)
{
	unsigned int i;

	for (i = 0; i < p->steps; i++)
		if (p->step[i].alias == A || p->step[i].alias == B)
			return true;
	return false;
}

/* ---- running a program ---- */

static bool holds(const struct outcome *o, u64 attempt, unsigned int line)
{
	unsigned int i, k;

	for (i = 0; i < o->conditions; i++) {
		const struct condition *c = &o->condition[i];
		const u64 *reg = registers[c->reg][line];
		bool equal = true;

		for (k = 0; k < WORDS; k++)
			equal &= reg[k] == (c->kind == 'r' ? registers[c->number][line][k] :
					    value(c->number, attempt, line, k));
		if (equal == c->differs)
			return false;
	}
	return true;
}

static unsigned int alias_of(const struct step *s, bool swap)
{
	return s->alias < A ? s->alias : (s->alias == A) != swap ? CBIT : PLAIN;
}

/* One attempt; how many lines do not hold what was stored last. */
static int attempt_program(const struct program *p, const int *cpu, bool swap)
{
	struct work last = { .step.operation = SETTLE, .attempt = ++attempts };
	unsigned int i;
	int error;

	memset(registers, 0, sizeof(*registers) * REGISTERS);
	flush_alias(PLAIN);
	flush_alias(CBIT);
	for (i = 0; i < p->steps; i++) {
		struct work w = { .step = p->step[i], .attempt = attempts };

		w.step.alias = alias_of(&p->step[i], swap);
		error = smp_call_function_single(cpu[w.step.cpu], do_step, &w, 1);
		if (error)
			return error;
		if (w.step.operation == STORE || w.step.operation == NTSTORE) {
			last.step.alias = w.step.alias;
			last.step.number = w.step.number;
		}
	}
	if (!has(p, STORE) && !has(p, NTSTORE))
		return 0;
	error = smp_call_function_single(cpu[X], do_step, &last, 1);
	return error ? error : last.destroyed;
}

static int run_on(const struct program *p, const int *cpu, const char *relation, bool swap)
{
	u64 count[OUTCOMES + 1] = { }, lost = 0;
	unsigned int t, i, o;

	for (t = 0; t < tries; t++) {
		int settled = attempt_program(p, cpu, swap);

		if (settled < 0)
			return settled;
		lost += settled;
		for (i = 0; i < LINES; i++) {
			for (o = 0; o < p->outcomes; o++)
				if (holds(&p->outcome[o], attempts, i))
					break;
			count[o]++;
		}
		cond_resched();
		if (signal_pending(current) || READ_ONCE(stopping))
			return -EINTR;
	}
	say("{'kind':'test','test':'%s','a':%s,'relation':'%s','x':%d,'y':%d,", p->name,
	    is_symbolic(p) ? (swap ? "'plain'" : "'cbit'") : "null", relation, cpu[X], cpu[Y]);
	say("'tries':%u,'outcomes':[", tries);
	for (o = 0; o < p->outcomes; o++) {
		say("{'name':'%s','starred':%s,'count':%llu},", p->outcome[o].name,
		    truth(p->outcome[o].starred), count[o]);
		starred += p->outcome[o].starred ? count[o] : 0;
	}
	say("{'name':'other','starred':false,'count':%llu}],'destroyed':%llu}\n",
	    count[p->outcomes], lost);
	answers++;
	destroyed += lost;
	return 0;
}

static void find_place(void *info)
{
	struct place *place = info;
	u32 a, b, c, d, i;

	place->apic = cpuid_ebx(1) >> 24;
	if (cpuid_eax(0) >= 0xb) {
		cpuid_count(0xb, 0, &a, &b, &c, &d);
		if (b)
			place->apic = d;
	}
	place->l3_shift = 0;
	for (i = 0; i < 8; i++) {
		cpuid_count(CACHES_LEAF, i, &a, &b, &c, &d);
		if (!(a & 31))
			break;
		if (((a >> 5) & 7) == 3)
			place->l3_shift = order_base_2(((a >> 14) & 0xfff) + 1);
	}
}

static const char *const relations[] = { "self", "smt", "same-l3", "other-l3", "other-package" };

/* The first CPU of each relation to x; -1 where this machine has none. */
static void find_cpus(int x, int *cpus)
{
	struct place here, there;
	int cpu, relation;
	bool same_l3;

	for (relation = 0; relation < ARRAY_SIZE(relations); relation++)
		cpus[relation] = -1;
	smp_call_function_single(x, find_place, &here, 1);
	for_each_online_cpu(cpu) {
		smp_call_function_single(cpu, find_place, &there, 1);
		same_l3 = here.apic >> here.l3_shift == there.apic >> here.l3_shift;
		if (cpu == x)
			relation = 0;
		else if (cpumask_test_cpu(cpu, topology_sibling_cpumask(x)))
			relation = 1;
		else if (topology_physical_package_id(cpu) != topology_physical_package_id(x))
			relation = 4;
		else
			relation = same_l3 ? 2 : 3;
		if (cpus[relation] < 0)
			cpus[relation] = cpu;
	}
}

static int run_program(struct program *p)
{
	int cpu[CPUS], cpus[ARRAY_SIZE(relations)], error = 0, k, swap;
	const char *missing = NULL;

	if (has(p, CLWB) && !boot_cpu_has(X86_FEATURE_CLWB))
		missing = "this CPU has no CLWB";
	if (has(p, WBNOINVD) && !boot_cpu_has(X86_FEATURE_WBNOINVD))
		missing = "this CPU has no WBNOINVD";
	tests++;
	if (missing) {
		say("{'kind':'skipped','test':'%s','why':'%s'}\n", p->name, missing);
		return 0;
	}
	cpus_read_lock();
	cpu[X] = cpumask_first(cpu_online_mask);
	find_cpus(cpu[X], cpus);
	for (k = 0; k < ARRAY_SIZE(relations) && !error; k++) {
		cpu[Y] = cpus[k];
		for (swap = 0; cpu[Y] >= 0 && swap <= is_symbolic(p) && !error; swap++)
			error = run_on(p, cpu, relations[k], swap);
	}
	cpus_read_unlock();
	return error;
}

/* ---- what WBINVD costs ---- */

static void cost_here(void *info)
{
	struct cost *c = info;
	unsigned int k;
	u64 start;

	asm volatile("wbinvd" ::: "memory");
	for (k = 0; k < c->dirty_kb * 1024; k += L1_CACHE_BYTES)
		WRITE_ONCE(*(u64 *)(evict_buffer + k), k);
	mb();	/* all of it is dirty */
	start = ktime_get_ns();
	asm volatile("wbinvd" ::: "memory");
	c->ns = ktime_get_ns() - start;
}

static int cost_on(int cpu, unsigned int dirty_kb)
{
	struct cost c = { .dirty_kb = dirty_kb };
	unsigned int t;
	int error;

	say("{'kind':'cost','cpu':%d,'dirty_kb':%u,'ns':[", cpu, dirty_kb);
	for (t = 0; t < COST_TRIES; t++) {
		error = smp_call_function_single(cpu, cost_here, &c, 1);
		if (error)
			return error;
		say("%s%llu", t ? "," : "", c.ns);
		cond_resched();
	}
	say("]}\n");
	return 0;
}

/* On CPUs of each relation; then on all at once, with what they hold by chance. */
static int run_cost(void)
{
	int cpus[ARRAY_SIZE(relations)], error = 0, k;
	u64 start;

	cpus_read_lock();
	find_cpus(cpumask_first(cpu_online_mask), cpus);
	for (k = 0; k < ARRAY_SIZE(relations) && !error; k++) {
		if (cpus[k] < 0)
			continue;
		error = cost_on(cpus[k], 0);
		if (!error)
			error = cost_on(cpus[k], evict_kb);
	}
	cpus_read_unlock();
	if (error)
		return error;
	say("{'kind':'cost','cpu':null,'dirty_kb':null,'ns':[");
	for (k = 0; k < COST_TRIES; k++) {
		start = ktime_get_ns();
		wbinvd_on_all_cpus();
		say("%s%llu", k ? "," : "", ktime_get_ns() - start);
		cond_resched();
	}
	say("]}\n");
	return 0;
}

/* ---- the file ---- */

static void say_machine(void)
{
	const struct cpuinfo_x86 *c = &boot_cpu_data;

	say("{'kind':'machine','schema':'staleline/litmus-line/1','language':%d,", LANGUAGE);
	say("'release':'%s','vendor':'%s',", init_utsname()->release, c->x86_vendor_id);
	say("'family':%u,'model':%u,'stepping':%u,'microcode':'%#x',", c->x86, c->x86_model,
	    c->x86_stepping, c->microcode);
	say("'cpus':%u,'hypervisor':%s,", num_online_cpus(),
	    truth(boot_cpu_has(X86_FEATURE_HYPERVISOR) || !hypervisor_is_type(X86_HYPER_NATIVE)));
	say("'cpuid_8000001f':['%#x','%#x','%#x','%#x'],", leaf[0], leaf[1], leaf[2], leaf[3]);
	say("'syscfg':'%#llx','kernel_encrypts':%s,", syscfg,
	    truth(cc_platform_has(CC_ATTR_HOST_MEM_ENCRYPT)));
	say("'tries':%u,'lines':%u,'evict_kb':%u,", tries, LINES, evict_kb);
	say(refused ? "'refused':'%s'}\n" : "'refused':null}\n", refused);
}

/* Before anybody else uses the pages: the kernel's own alias is the last that is written back. */
static void clean(void)
{
	unsigned int kernels = cc_platform_has(CC_ATTR_HOST_MEM_ENCRYPT) ? CBIT : PLAIN;

	if (!map[PLAIN] || !map[CBIT])
		return;
	flush_alias(!kernels);
	flush_alias(kernels);
}

static int ask_program(char *text)
{
	struct program *p = kzalloc(sizeof(*p), GFP_KERNEL);
	const char *error;
	int done = -EINVAL;

	if (!p)
		return -ENOMEM;
	error = parse(text, p);
	if (error)
		say("{'kind':'error','error':'%s'}\n", error);
	else
		done = run_program(p);
	kfree(p);
	return done;
}

static int ask(char *line)
{
	if (!strncmp(line, "staleline-litmus ", 17)) {
		if (strcmp(line + 17, __stringify(LANGUAGE)))
			return -EPROTONOSUPPORT;
		say_machine();
		return 0;
	}
	if (!strcmp(line, "end")) {
		say("{'kind':'end','tests':%llu,'answers':%llu,'starred':%llu,'destroyed':%llu}\n",
		    tests, answers, starred, destroyed);
		tests = 0;
		answers = 0;
		starred = 0;
		destroyed = 0;
		return 0;
	}
	if (!*line || *line == '#')
		return 0;
	if (refused || stopping)
		return -EPERM;
	return strcmp(line, "cost") ? ask_program(line) : run_cost();
}

static ssize_t litmus_write(struct file *file, const char __user *buffer, size_t count, loff_t *at)
{
	char *text;
	int error;

	if (!capable(CAP_SYS_RAWIO))
		return -EPERM;
	if (count >= INPUT)
		return -E2BIG;
	text = memdup_user_nul(buffer, count);
	if (IS_ERR(text))
		return PTR_ERR(text);
	mutex_lock(&lock);
	used = 0;
	error = ask(strim(text));
	clean();
	if (used == OUTPUT - 1)		/* it was cut */
		error = -ENOSPC;
	mutex_unlock(&lock);
	kfree(text);
	return error ? error : count;
}

static int litmus_show(struct seq_file *s, void *unused)
{
	mutex_lock(&lock);
	seq_write(s, output, used);
	mutex_unlock(&lock);
	return 0;
}

static int litmus_open(struct inode *inode, struct file *file)
{
	return single_open_size(file, litmus_show, NULL, OUTPUT);
}

static const struct proc_ops litmus_ops = {
	.proc_open	= litmus_open,
	.proc_read	= seq_read,
	.proc_lseek	= seq_lseek,
	.proc_release	= single_release,
	.proc_write	= litmus_write,
};

/* ---- whether, and with what ---- */

static const char *syscfg_refusal(void)
{
	int cpu;

	for_each_online_cpu(cpu) {
		u32 regs[8] = { [1] = SYSCFG };		/* EAX, ECX, EDX */

		if (rdmsr_safe_regs_on_cpu(cpu, regs))
			return "SYSCFG cannot be read";
		syscfg = (u64)regs[2] << 32 | regs[0];
		if (!(syscfg & SYSCFG_SME))
			return "firmware left SYSCFG[23] off, so that the C-bit is a reserved bit";
		if (syscfg & SYSCFG_SNP)
			return "SYSCFG[24] is set: on an SNP host pages have owners";
	}
	return NULL;
}

static const char *refusal(void)
{
	const char *why;

	if (boot_cpu_data.x86_vendor != X86_VENDOR_AMD &&
	    boot_cpu_data.x86_vendor != X86_VENDOR_HYGON)
		return "neither AMD nor Hygon: high address bits choose KeyIDs elsewhere";
	/* Xen's dom0 may see the bit of the CPU itself, which is clear. */
	if (boot_cpu_has(X86_FEATURE_HYPERVISOR) || !hypervisor_is_type(X86_HYPER_NATIVE))
		return "a hypervisor is between this kernel and the caches";
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		return "an encrypted guest";
	if (security_locked_down(LOCKDOWN_DEV_MEM))
		return "the kernel is locked down";
	if (cpuid_eax(0x80000000) < SME_LEAF)
		return "CPUID has no leaf 0x8000001f";
	cpuid(SME_LEAF, &leaf[0], &leaf[1], &leaf[2], &leaf[3]);
	if (!(leaf[0] & 1))
		return "a CPU without SME";
	cbit = BIT_ULL(leaf[1] & 63);
	if (!(cbit & GENMASK_ULL(51, 32)))
		return "the C-bit is at a position that is no address";
	cpus_read_lock();
	why = syscfg_refusal();
	cpus_read_unlock();
	if (!why && sme_me_mask && sme_me_mask != cbit)
		why = "the C-bit of the kernel is not that of CPUID";
	return why;
}

static unsigned int evicting_kb(void)
{
	unsigned int kb = 4096, i;
	u32 a, b, c, d;

	for (i = 0; i < 8; i++) {
		cpuid_count(CACHES_LEAF, i, &a, &b, &c, &d);
		if (!(a & 31))
			break;
		if (((a >> 5) & 7) == 3)	/* ways, partitions, line size, sets */
			kb += 2 * ((u64)((b >> 22) + 1) * (((b >> 12) & 1023) + 1) *
				   ((b & 4095) + 1) * (c + 1) >> 10);
	}
	return kb;
}

static bool is_mapped(unsigned int alias)
{
	u64 key = alias == CBIT ? cbit : 0;
	unsigned int i, level;

	for (i = 0; i < PAGES; i++) {
		pte_t *pte = lookup_address((unsigned long)map[alias] + i * PAGE_SIZE, &level);

		if (!pte || level != PG_LEVEL_4K)
			return false;
		if ((native_pte_val(*pte) & GENMASK_ULL(51, 12)) !=
		    ((u64)page_to_pfn(pages[i]) << PAGE_SHIFT | key))
			return false;
	}
	return true;
}

static int prepare(void)
{
	unsigned int i;

	evict_kb = min(evict_kb ? evict_kb : evicting_kb(), EVICT_KB_MAX);
	evict_buffer = vzalloc((size_t)evict_kb << 10);
	registers = kvzalloc(sizeof(*registers) * REGISTERS, GFP_KERNEL);
	if (!evict_buffer || !registers)
		return -ENOMEM;
	for (i = 0; i < PAGES; i++) {
		pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!pages[i])
			return -ENOMEM;
	}
	for (i = 0; i < 2; i++) {
		/* Not for /proc/kcore, which may take the C-bit for a part of the address. */
		map[i] = vmap(pages, PAGES, VM_MAP | VM_IOREMAP,
			      __pgprot((pgprot_val(PAGE_KERNEL) & ~cbit) | (i == CBIT ? cbit : 0)));
		if (!map[i])
			return -ENOMEM;
	}
	if (!is_mapped(PLAIN) || !is_mapped(CBIT)) {
		refused = "the kernel did not map the pages as asked";
		return 0;
	}
	clean();
	return 0;
}

static void release(void)
{
	unsigned int i;

	clean();
	if (map[PLAIN] && map[CBIT])
		wbinvd_on_all_cpus();
	for (i = 0; i < 2; i++)
		vunmap(map[i]);
	vm_unmap_aliases();	/* no TLB has either map before the pages are somebody else's */
	for (i = 0; i < PAGES; i++)
		if (pages[i])
			__free_page(pages[i]);
	vfree(evict_buffer);
	kvfree(registers);
	kvfree(output);
}

/* A kexec must not find lines of a test in the caches. */
static int litmus_reboot(struct notifier_block *unused, unsigned long code, void *data)
{
	WRITE_ONCE(stopping, true);
	mutex_lock(&lock);
	clean();
	mutex_unlock(&lock);
	return NOTIFY_DONE;
}

static struct notifier_block reboot_notifier = { .notifier_call = litmus_reboot };

static int __init litmus_init(void)
{
	int error = -ENOMEM;

	output = kvzalloc(OUTPUT, GFP_KERNEL);
	if (!output)
		return error;
	refused = refusal();
	if (!refused)
		error = prepare();
	if (!refused && error)
		goto fail;
	if (refused)
		pr_err("refused: %s\n", refused);
	say_machine();
	error = -ENOMEM;
	if (!proc_create(NAME, 0600, NULL, &litmus_ops))
		goto fail;
	register_reboot_notifier(&reboot_notifier);
	return 0;
fail:
	release();
	return error;
}

static void __exit litmus_exit(void)
{
	unregister_reboot_notifier(&reboot_notifier);
	remove_proc_entry(NAME, NULL);
	release();
}

module_init(litmus_init);
module_exit(litmus_exit);
MODULE_LICENSE("GPL");
MODULE_AUTHOR("staleline");
MODULE_DESCRIPTION("Are the SME aliases of a line coherent on this machine?");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin of QEMU's: counts the instructions of a function's calls, apart by what they belong to.
 *
 *	-plugin counter.so,ranges=FILE,output=FILE
 *
 * The file of ranges has lines of four words, addresses in hex:
 *
 *	begin ADDRESS 0 0	a window opens before the instruction there
 *	caller START END 0	and closes before one in this range, or when the next one opens
 *	part START END NUMBER	code of a part; what code of no part executes belongs to the part
 *				whose code ran last
 *	interrupt ENTRY EXIT NUMBER
 *				what begins at the one instruction and ends with the other belongs
 *				to this part, whatever code it executes
 *
 * A window begins in part 0. For each one that closes, the output gets a line of counts, by part.
 *
 * The guest does not notice: nothing is added to what it executes, nor does its clock, which
 * counts instructions (-icount), go on meanwhile. Instructions are counted one by one; QEMU's
 * blocks of them may be left in the middle.
 *
 * API is the version of the plugins' interface that QEMU is told, see counter.py.
 */

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "counter.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int qemu_plugin_version = API;

#define RANGES 256
#define PARTS 32

struct range {
	uint64_t start;
	uint64_t end;
	unsigned int part;
};

static struct range ranges[RANGES];
static size_t ranges_count;
static uint64_t begin;
static struct range caller, interrupt;
static unsigned int parts; /* their numbers are below */

static FILE *output;
static uint64_t counts[PARTS];
static unsigned int current;
static bool window, interrupted;

static void executed(unsigned int cpu, void *data)
{
	(void)cpu;
	if (data && !interrupted)
		current = (uintptr_t)data - 1;
	if (window)
		counts[interrupted ? interrupt.part : current]++;
}

static void enter_interrupt(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	interrupted = true;
}

static void leave_interrupt(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	interrupted = false;
}

static void close_window(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	if (!window)
		return;
	for (unsigned int part = 0; part < parts; part++)
		fprintf(output, "%" PRIu64 "%c", counts[part], part + 1 < parts ? ' ' : '\n');
	fflush(output); /* QEMU may be killed */
	window = false;
}

static void open_window(unsigned int cpu, void *data)
{
	close_window(cpu, data);
	memset(counts, 0, sizeof(counts));
	current = 0;
	window = true;
	interrupted = false; /* one of user space ends elsewhere */
}

/* The part whose code has the address, plus one; 0 if none has it. */
static uintptr_t part_of(uint64_t address)
{
	for (size_t i = 0; i < ranges_count; i++) {
		if (address >= ranges[i].start && address < ranges[i].end)
			return ranges[i].part + 1;
	}
	return 0;
}

static void call(struct qemu_plugin_insn *insn, qemu_plugin_vcpu_udata_cb_t function,
		 uintptr_t data)
{
	qemu_plugin_register_vcpu_insn_exec_cb(insn, function, QEMU_PLUGIN_CB_NO_REGS,
					       (void *)data);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t count = qemu_plugin_tb_n_insns(tb);

	(void)id;
	for (size_t i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);

		/* The calls are made in this order. */
		if (address == begin)
			call(insn, open_window, 0);
		if (address >= caller.start && address < caller.end)
			call(insn, close_window, 0);
		if (address == interrupt.start)
			call(insn, enter_interrupt, 0);
		call(insn, executed, part_of(address));
		if (address == interrupt.end)
			call(insn, leave_interrupt, 0);
	}
}

static bool read_line(const char *word, const struct range *line)
{
	if (line->part >= PARTS)
		return false;
	if (line->part >= parts)
		parts = line->part + 1;
	if (!strcmp(word, "begin"))
		begin = line->start;
	else if (!strcmp(word, "caller"))
		caller = *line;
	else if (!strcmp(word, "interrupt"))
		interrupt = *line;
	else if (!strcmp(word, "part") && ranges_count < RANGES)
		ranges[ranges_count++] = *line;
	else
		return false;
	return true;
}

static bool read_ranges(const char *path)
{
	FILE *file = fopen(path, "r");
	struct range line;
	char word[10];
	bool good = file;

	while (good && fscanf(file, "%9s %" SCNx64 " %" SCNx64 " %u", word, &line.start, &line.end,
			      &line.part) == 4)
		good = read_line(word, &line);
	good = good && feof(file) && begin && caller.end && interrupt.end && ranges_count;
	if (file)
		fclose(file);
	return good;
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info, int argc,
				 char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "ranges=", 7) && !read_ranges(argv[i] + 7)) {
			fprintf(stderr, "counter: %s: begin, caller, interrupt or parts are missing, or too many\n",
				argv[i] + 7);
			return 1;
		}
		if (!strncmp(argv[i], "output=", 7))
			output = fopen(argv[i] + 7, "w");
	}
	if (!ranges_count || !output) {
		fprintf(stderr, "counter: ranges=FILE and output=FILE are needed, and writable\n");
		return 1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin of QEMU's: counts the instructions between two addresses, apart by what they belong to.
 *
 *	-plugin counter.so,ranges=FILE,output=FILE
 *
 * The file of ranges has lines of four words, addresses in hex:
 *
 *	begin ADDRESS 0 0	a window opens before the instruction there
 *	end ADDRESS 0 0		and closes before this one, or when the next one opens
 *	part START END NUMBER	code of a part; what code of no part executes belongs to the part
 *				whose code ran last
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
static uint64_t begin, end;
static unsigned int parts; /* their numbers are below */

static FILE *output;
static uint64_t counts[PARTS];
static unsigned int current;
static bool window;

static void executed(unsigned int cpu, void *data)
{
	(void)cpu;
	if (data)
		current = (uintptr_t)data - 1;
	if (window)
		counts[current]++;
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

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t count = qemu_plugin_tb_n_insns(tb);

	(void)id;
	for (size_t i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);

		/* The calls are made in this order. */
		if (address == begin || address == end)
			qemu_plugin_register_vcpu_insn_exec_cb(insn,
							       address == begin ? open_window :
										  close_window,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
		qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, QEMU_PLUGIN_CB_NO_REGS,
						       (void *)part_of(address));
	}
}

static bool read_line(const char *word, const struct range *line)
{
	if (!strcmp(word, "begin")) {
		begin = line->start;
	} else if (!strcmp(word, "end")) {
		end = line->start;
	} else if (!strcmp(word, "part") && line->part < PARTS && ranges_count < RANGES) {
		ranges[ranges_count++] = *line;
		if (line->part >= parts)
			parts = line->part + 1;
	} else {
		return false;
	}
	return true;
}

static bool read_ranges(const char *path)
{
	FILE *file = fopen(path, "r");
	struct range line;
	char word[8];
	bool good = file;

	while (good && fscanf(file, "%7s %" SCNx64 " %" SCNx64 " %u", word, &line.start, &line.end,
			      &line.part) == 4)
		good = read_line(word, &line);
	good = good && feof(file) && begin && end && parts;
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
			fprintf(stderr, "counter: %s: no ranges, or more than fit\n", argv[i] + 7);
			return 1;
		}
		if (!strncmp(argv[i], "output=", 7))
			output = fopen(argv[i] + 7, "w");
	}
	if (!parts || !output) {
		fprintf(stderr, "counter: ranges=FILE and output=FILE are needed, and writable\n");
		return 1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}

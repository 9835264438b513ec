// SPDX-License-Identifier: GPL-2.0-only
/*
 * page-owner: who allocated a page frame, of a kernel with CONFIG_PAGE_OWNER that was booted with
 * page_owner=on. Each result is one JSON object on a line of its own.
 *
 * A read of the kernel's file tells of the first page that has an owner, from the file's position
 * on: a frame, counted from the first one of memory before "mm/page_owner.c: add llseek for
 * page_owner" (6.1 has it, 5.10 not), and from 0 since. So both are tried.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

#define OWNERS "/sys/kernel/debug/page_owner"

static const char usage_text[] =
	"usage: page-owner PFN...\n"
	"\n"
	"  -h, --help      this text\n"
	"\n"
	"Print of each page frame the pid that allocated it, the name of that process (empty: it has\n"
	"ended), and the migratetype it was allocated for, empty when the frame has no owner. Before\n"
	"5.11 the kernel does not keep the pid; then it is 0.\n"
	"Exit status: 0 done, 1 a system call failed (is page_owner=on given?), 2 usage.\n"
	"\n"
	"Example: page-owner 0x4c000\n";

static uint64_t first_frame(void)
{
	FILE *zones = fopen("/proc/zoneinfo", "r");
	char line[256];
	uint64_t first;

	if (!zones)
		die("/proc/zoneinfo");
	while (fgets(line, sizeof(line), zones)) {
		if (sscanf(line, " start_pfn: %" SCNu64, &first) == 1) {
			fclose(zones);
			return first;
		}
	}
	usage_error("no start_pfn in", "/proc/zoneinfo");
}

/* The record at a position, if it is that of @pfn. */
static bool record_at(int fd, uint64_t position, uint64_t pfn, char *text, size_t size)
{
	ssize_t length = pread(fd, text, size - 1, (off_t)position);
	const char *frame;

	if (length < 0)
		die(OWNERS);
	text[length] = '\0';
	frame = strstr(text, "\nPFN ");
	return frame && strtoull(frame + 5, NULL, 0) == pfn;
}

static void print_owner(uint64_t pfn, const char *text)
{
	const char *pid = strstr(text, ", pid "), *type = strstr(text, " type ");
	char path[64], name[64] = "", migratetype[32] = "";
	int number = pid ? atoi(pid + 6) : 0;
	FILE *comm;

	if (type)
		sscanf(type, " type %31s", migratetype);
	snprintf(path, sizeof(path), "/proc/%d/comm", number);
	comm = fopen(path, "r");
	if (comm && fscanf(comm, "%63[^\n]", name) != 1)
		name[0] = '\0';
	if (comm)
		fclose(comm);
	printf("{\"pfn\": %" PRIu64 ", \"pid\": %d, \"comm\": \"%s\", \"migratetype\": \"%s\"}\n", pfn,
	       number, name, migratetype);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	char text[8192];
	uint64_t first;
	int option, fd;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option != 'h')
			return EXIT_USAGE;
		fputs(usage_text, stdout);
		return EXIT_OK;
	}
	if (optind == argc)
		usage_error("no page frame is given", "see --help");
	first = first_frame();
	fd = open(OWNERS, O_RDONLY);
	if (fd < 0)
		die(OWNERS);
	for (; optind < argc; optind++) {
		uint64_t pfn = number(argv[optind], UINT32_MAX);

		if (!record_at(fd, pfn, pfn, text, sizeof(text)) &&
		    !record_at(fd, pfn - first, pfn, text, sizeof(text)))
			text[0] = '\0';
		print_owner(pfn, text);
	}
	return EXIT_OK;
}

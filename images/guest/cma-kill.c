// SPDX-License-Identifier: GPL-2.0-only
/*
 * cma-kill: allocate a buffer and be killed on the way, at a place that a tracepoint names. perf's
 * counter of the tracepoint, in this task alone, signals its own process from an interrupt of the
 * CPU it runs on: the allocation finds the signal pending, however fast it or the machine is.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cma_test_uapi.h"
#include "frames.h"
#include "report.h"

static const char usage_text[] =
	"usage: cma-kill EVENT COUNT DEVICE BYTES\n"
	"\n"
	"  -h, --help      this text\n"
	"\n"
	"Allocate BYTES from DEVICE, and be killed when EVENT (GROUP/NAME, as in tracefs) has come\n"
	"COUNT times meanwhile. Ends by signal 9, or with 0 when the allocation came first: then its\n"
	"buffer is there.\n"
	"Exit status: 0 allocated, 1 a system call failed, 2 usage.\n"
	"\n"
	"Example: cma-kill migrate/mm_migrate_pages 2 /dev/cma_test 0x400000\n";

static uint64_t event_id(const char *event)
{
	char path[256];
	uint64_t id;
	FILE *from;

	snprintf(path, sizeof(path), "/sys/kernel/tracing/events/%s/id", event);
	from = fopen(path, "r");
	if (!from || fscanf(from, "%" SCNu64, &id) != 1)
		die(path);
	fclose(from);
	return id;
}

/* Have this process killed when the event has come @count times in this task. */
static void arm(const char *event, uint64_t count)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.config = event_id(event),
		.sample_period = count,
		.wakeup_events = 1,
	};
	int fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);

	if (fd < 0)
		die("perf_event_open");
	/* Without a ring buffer nobody is woken. */
	if (mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
		die("mmap");
	if (fcntl(fd, F_SETSIG, SIGKILL) || fcntl(fd, F_SETOWN, getpid()) ||
	    fcntl(fd, F_SETFL, O_ASYNC))
		die("fcntl");
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	struct cma_test_alloc arg = { .attrs = CMA_TEST_ATTR_NO_WARN };
	int letter, fd;

	while ((letter = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		if (letter != 'h')
			return EXIT_USAGE;
		fputs(usage_text, stdout);
		return EXIT_OK;
	}
	if (argc - optind != 4)
		usage_error("wrong number of arguments", argc > optind ? argv[optind] : "none");
	arg.size = number(argv[optind + 3], UINT64_MAX);
	fd = open(argv[optind + 2], O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die(argv[optind + 2]);
	arm(argv[optind], number(argv[optind + 1], UINT64_MAX));
	if (ioctl(fd, CMA_TEST_IOC_ALLOC, &arg))
		die("alloc");
	printf("{\"handle\": %u}\n", arg.handle);
	return EXIT_OK;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * mem-take: take anonymous memory a page at a time, so much of it or all that there is, and tell
 * what was had. One JSON object on a line of its own.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "areas.h"
#include "frames.h"
#include "report.h"

static const char usage_text[] =
	"usage: mem-take [--shared] BYTES | all\n"
	"\n"
	"Maps anonymous memory (with --shared: of the kind that processes share, which is tmpfs's)\n"
	"and writes to each page of it, in order, from a process of its own: BYTES, or until the OOM\n"
	"killer ends that process, which it is made to prefer.\n"
	"\n"
	"Tells: pages (that were had), asked, oom (whether the process was killed), and, unless it\n"
	"was, in_cma (how many of the pages lie in an area of CMA) and took_ns (from the first page\n"
	"to the last, by CLOCK_MONOTONIC).\n"
	"\n"
	"Numbers are decimal, 0x hexadecimal or 0 octal; K, M and G are powers of 1024.\n"
	"Exit status: 0 done, 1 a system call failed (its errno is on standard error), 2 usage.\n"
	"\n"
	"Example: mem-take 64M\n";

/* More than there is of memory on any board here; a process of 32 bits can map that much. */
#define ALL (2UL << 30)
#define OOM "/proc/self/oom_score_adj"

/* What the two processes have in common. */
struct taken {
	size_t pages;
	size_t in_cma;
	uint64_t ns;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static size_t count_in_cma(const unsigned char *map, size_t pages)
{
	struct area areas[MAX_AREAS];
	size_t count = areas_read(areas), found = 0;
	uint64_t *frames = calloc(pages, sizeof(*frames));

	if (!frames)
		die("calloc");
	frames_of(map, pages, frames);
	for (size_t i = 0; i < pages; i++)
		found += areas_have(areas, count, frames[i]);
	free(frames);
	return found;
}

/* The process that may be killed: it is the one that the kernel is to choose. */
static void take(volatile struct taken *taken, size_t pages, bool all, int flags)
{
	int fd = open(OOM, O_WRONLY | O_CLOEXEC);
	unsigned char *map;
	uint64_t begun;

	if (fd < 0 || write(fd, "1000", 4) != 4)
		die(OOM);
	close(fd);
	map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
		   flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		die("mmap");
	begun = now_ns();
	for (size_t i = 0; i < pages; i++) {
		map[i * PAGE] = 1;
		taken->pages = i + 1;
	}
	taken->ns = now_ns() - begun;
	if (!all)
		taken->in_cma = count_in_cma(map, pages);
	_exit(EXIT_OK);
}

int main(int argc, char **argv)
{
	volatile struct taken *taken;
	bool all, killed, shared;
	size_t pages;
	int status;
	pid_t pid;

	if (argc > 1 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
		fputs(usage_text, stdout);
		return EXIT_OK;
	}
	shared = argc > 1 && !strcmp(argv[1], "--shared");
	argc -= shared;
	argv += shared;
	if (argc != 2)
		usage_error("one argument is due", "how much");
	all = !strcmp(argv[1], "all");
	pages = (all ? ALL : number(argv[1], ALL)) / PAGE;
	if (!pages)
		usage_error("less than a page", argv[1]);
	taken = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (taken == MAP_FAILED)
		die("mmap");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		take(taken, pages, all, shared ? MAP_SHARED : MAP_PRIVATE);
	if (waitpid(pid, &status, 0) < 0)
		die("waitpid");
	killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	if (!killed && (!WIFEXITED(status) || WEXITSTATUS(status)))
		return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_ERRNO;
	printf("{\"asked\": %zu, \"pages\": %zu, \"oom\": %s", pages, taken->pages,
	       killed ? "true" : "false");
	if (!killed)
		printf(", \"in_cma\": %zu, \"took_ns\": %" PRIu64, taken->in_cma, taken->ns);
	puts("}");
	return EXIT_OK;
}

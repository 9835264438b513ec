// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "frames.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include "report.h"

/* Of Documentation/admin-guide/mm/pagemap.rst. */
#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_PFN ((1ULL << 55) - 1)

static void read_table(const char *path, int fd, uint64_t first, size_t count, uint64_t *entries)
{
	size_t size = count * sizeof(*entries), got = 0;

	if (fd < 0)
		die(path);
	while (got < size) {
		ssize_t more = pread(fd, (char *)entries + got, size - got,
				     (off_t)(first * sizeof(*entries) + got));

		if (more < 0)
			die(path);
		if (!more)
			die_of(ENXIO, path);
		got += more;
	}
}

/* Opened each time: the table is that of the process which opened it, and there may be children. */
void frames_of(const void *start, size_t count, uint64_t *pfns)
{
	static const char path[] = "/proc/self/pagemap";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	read_table(path, fd, (uintptr_t)start / PAGE, count, pfns);
	close(fd);
	for (size_t i = 0; i < count; i++)
		pfns[i] = pfns[i] & PAGEMAP_PRESENT ? pfns[i] & PAGEMAP_PFN : NO_FRAME;
}

void frames_flags(uint64_t first, size_t count, uint64_t *flags)
{
	static const char path[] = "/proc/kpageflags";
	static int fd = -1;

	if (fd < 0)
		fd = open(path, O_RDONLY | O_CLOEXEC);
	read_table(path, fd, first, count, flags);
}

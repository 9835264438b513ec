// SPDX-License-Identifier: GPL-2.0-only
/* Memory of the kernel that cannot be moved: a quarter each of four kinds. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "occupant.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "report.h"

/* What one page-table page of ARM maps: two hardware tables of 1 MiB (arch/arm/include/asm). */
#define TABLE_SPAN (2UL << 20)
/* Bytes of slab that an open memory file takes at least: its inode, dentry and struct file. */
#define FILE_SLAB 1024

/* Reading maps the zero page: nothing but the tables is taken. */
static void take_tables(size_t pages)
{
	unsigned char *map = mmap(NULL, pages * TABLE_SPAN, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i < pages; i++)
		*(volatile unsigned char *)(map + i * TABLE_SPAN);
}

/* A pipe that is full has a page in each of its 16 slots. */
static void take_pipes(size_t pages)
{
	static const char page[PAGE] = { 1 };

	for (size_t full = 0; full < pages; full += 16) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
			die("pipe2");
		for (size_t i = 0; i < 16; i++)
			if (write(ends[1], page, PAGE) != (ssize_t)PAGE)
				die("pipe");
	}
}

static void *wait_forever(void *nothing)
{
	pause();
	return nothing;
}

/* A thread's kernel stack is two pages. */
static void take_stacks(size_t pages)
{
	pthread_attr_t small;
	pthread_t thread;

	if (pthread_attr_init(&small) || pthread_attr_setstacksize(&small, 4 * PAGE))
		die("pthread_attr");
	for (size_t i = 0; i < pages / 2; i++) {
		int error = pthread_create(&thread, &small, wait_forever, NULL);

		if (error)
			die_of(error, "pthread_create");
	}
}

static void take_slab(size_t pages)
{
	for (size_t i = 0; i < pages * PAGE / FILE_SLAB; i++)
		if (memfd_create("cma-occupy", MFD_CLOEXEC) < 0)
			die("memfd_create");
}

void kernel_take(size_t pages)
{
	struct rlimit files = { 65536, 65536 };

	if (setrlimit(RLIMIT_NOFILE, &files))
		die("setrlimit");
	take_tables(pages / 4);
	take_pipes(pages / 4);
	take_stacks(pages / 4);
	take_slab(pages / 4);
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls that cma-ctl cannot make: bad pointers, reserved fields, unknown values, odd mappings.
 *
 * Prints "ATTEMPT RESULT LIVE" for each: the errno or "ok", and how many buffers are alive after
 * it. test_helper_ioctl.py holds what is due, out of cma_test_uapi.h.
 */

#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cma_test_uapi.h"

#define SIZE 8192

/* Volatile, or the compiler sees through it. */
static void *volatile nowhere = (void *)8;
static int fd;

static void tell(const char *attempt, long result)
{
	int error = errno;
	struct cma_test_version version;

	if (ioctl(fd, CMA_TEST_IOC_VERSION, &version))
		exit(1);
	printf("%s %s %u\n", attempt, result < 0 ? strerrorname_np(error) : "ok", version.live);
}

/* A copy of @args where the kernel may read but not write. */
static void *read_only(const void *args, size_t size)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		exit(1);
	memcpy(page, args, size);
	if (mprotect(page, 4096, PROT_READ))
		exit(1);
	return page;
}

static uint32_t make(void)
{
	struct cma_test_alloc args = { .size = SIZE };

	if (ioctl(fd, CMA_TEST_IOC_ALLOC, &args))
		exit(1);
	return args.handle;
}

static long drop(uint32_t handle)
{
	struct cma_test_free args = { .handle = handle };

	return ioctl(fd, CMA_TEST_IOC_FREE, &args);
}

static void *map(uint32_t handle, size_t size, int flags)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, (off_t)handle * 4096);
}

static void wrong_arguments(void)
{
	struct cma_test_alloc reserved = { .size = SIZE, .reserved = 1 };
	struct cma_test_alloc attrs = { .size = SIZE, .attrs = CMA_TEST_ATTR_ALL + 1 };
	struct cma_test_alloc gfp = { .size = SIZE, .gfp = CMA_TEST_GFP_NOWAIT + 1 };
	struct cma_test_alloc good = { .size = SIZE };

	tell("unknown-ioctl", ioctl(fd, _IO('C', 0xff), 0));
	tell("write-nowhere", write(fd, nowhere, 1));
	tell("version-nowhere", ioctl(fd, CMA_TEST_IOC_VERSION, nowhere));
	tell("alloc-nowhere", ioctl(fd, CMA_TEST_IOC_ALLOC, nowhere));
	tell("alloc-reserved", ioctl(fd, CMA_TEST_IOC_ALLOC, &reserved));
	tell("alloc-attrs", ioctl(fd, CMA_TEST_IOC_ALLOC, &attrs));
	tell("alloc-gfp", ioctl(fd, CMA_TEST_IOC_ALLOC, &gfp));
	tell("alloc-unstorable", ioctl(fd, CMA_TEST_IOC_ALLOC, read_only(&good, sizeof(good))));
}

static void wrong_frees(void)
{
	struct cma_test_free args = { .handle = make(), .reserved = 1 };
	struct cma_test_list list = { .buffers = (uintptr_t)nowhere, .count = 1 };

	tell("list-nowhere", ioctl(fd, CMA_TEST_IOC_LIST, nowhere));
	tell("list-unstorable", ioctl(fd, CMA_TEST_IOC_LIST, &list));
	tell("free-nowhere", ioctl(fd, CMA_TEST_IOC_FREE, nowhere));
	tell("free-reserved", ioctl(fd, CMA_TEST_IOC_FREE, &args));
	args.reserved = 0;
	tell("free-unstorable", ioctl(fd, CMA_TEST_IOC_FREE, read_only(&args, sizeof(args))));
}

static void wrong_mappings(void)
{
	uint32_t handle = make();

	tell("map-private", (long)map(handle, SIZE, MAP_PRIVATE) == -1 ? -1 : 0);
	tell("map-too-long", (long)map(handle, SIZE + 1, MAP_SHARED) == -1 ? -1 : 0);
	tell("map-no-handle", (long)map(handle + 1, SIZE, MAP_SHARED) == -1 ? -1 : 0);
	tell("map-failed-free", drop(handle));
}

/* A buffer stays busy until its last mapping is gone, be it a half or a child's. */
static void lasting_mappings(void)
{
	uint32_t handle = make();
	char *start = map(handle, SIZE, MAP_SHARED);
	int ends[2];
	pid_t child;

	if (start == MAP_FAILED || pipe(ends))
		exit(1);
	fflush(stdout);
	child = fork();
	if (!child) {
		close(ends[1]);
		_exit(read(ends[0], &handle, 1) != 0);
	}
	munmap(start, 4096);
	tell("free-half-mapped", drop(handle));
	munmap(start + 4096, 4096);
	tell("free-mapped-by-child", drop(handle));
	close(ends[1]);
	waitpid(child, NULL, 0);
	tell("free-unmapped", drop(handle));
}

int main(void)
{
	fd = open("/dev/cma_test", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 1;
	wrong_arguments();
	wrong_frees();
	wrong_mappings();
	lasting_mappings();
	return 0;
}

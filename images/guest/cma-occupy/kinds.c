// SPDX-License-Identifier: GPL-2.0-only
/* The kinds of page that can be held. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "occupant.h"

#include <fcntl.h>
#include <linux/types.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pattern.h"
#include "report.h"

/* Of drivers/staging/android/uapi/ashmem.h, which went with 5.18. */
struct ashmem_pin {
	__u32 offset;
	__u32 len;	/* 0: to the end */
};

#define ASHMEM "/dev/ashmem"
#define ASHMEM_SET_SIZE _IOW(0x77, 3, size_t)
#define ASHMEM_UNPIN _IOW(0x77, 8, struct ashmem_pin)

static void map(struct occupant *o, int flags)
{
	o->map = mmap(NULL, o->count * PAGE, PROT_READ | PROT_WRITE, flags, o->fd, 0);
	if (o->map == MAP_FAILED)
		die("mmap");
}

static void map_private(struct occupant *o)
{
	map(o, MAP_PRIVATE | MAP_ANONYMOUS);
}

static void map_shared(struct occupant *o)
{
	map(o, MAP_SHARED | MAP_ANONYMOUS);
}

static void advise(const struct occupant *o, int advice, const char *what)
{
	if (madvise(o->map, o->count * PAGE, advice))
		die(what);
}

static void take_filled(struct occupant *o)
{
	pages_fill(o, o->seed);
}

static void take_touched(struct occupant *o)
{
	pages_touch(o);
}

/* The first half is there before memory is short. */
static void prepare_mixed(struct occupant *o)
{
	struct occupant half = *o;

	map_private(o);
	half.map = o->map;
	half.count /= 2;
	pages_fill(&half, o->seed);
}

static void take_locked(struct occupant *o)
{
	if (mlock(o->map, o->count * PAGE))
		die("mlock");
	pages_fill(o, o->seed);
}

/* Not while memory is short: then they would be freed at once. */
static void settle_lazyfree(struct occupant *o)
{
	advise(o, MADV_FREE, "MADV_FREE");
}

/* A page that is written to after MADV_FREE is kept, as before it. */
static void settle_half(struct occupant *o)
{
	settle_lazyfree(o);
	for (size_t i = 0; i < o->count; i += 2)
		page_fill(o->map + i * PAGE, o->seed, i);
}

static void prepare_ashmem(struct occupant *o)
{
	o->fd = open(ASHMEM, O_RDWR | O_CLOEXEC);
	if (o->fd < 0 || ioctl(o->fd, ASHMEM_SET_SIZE, o->count * PAGE))
		die(ASHMEM);
	map(o, MAP_SHARED);
}

static void settle_ashmem(struct occupant *o)
{
	struct ashmem_pin all = { 0 };

	if (ioctl(o->fd, ASHMEM_UNPIN, &all))
		die("ASHMEM_UNPIN");
}

/* Whether a page stays: about half do, without a pattern, but the same ones each time. */
static bool stays(uint32_t index)
{
	index *= 0x9e3779b1;
	index ^= index >> 15;
	index *= 0x85ebca6b;
	return index >> 16 & 1;
}

/*
 * Not every other page: when the scanner for free pages finds none in a block, it looks at every
 * second, fourth, ... page of the next ones (isolate_freepages() in mm/compaction.c, since 5.1,
 * 4fca9730c51d "mm, compaction: sample pageblocks for free pages"), and would miss all of them.
 */
static void settle_scattered(struct occupant *o)
{
	for (size_t i = 0; i < o->count; i++)
		if (!stays(i) && madvise(o->map + i * PAGE, PAGE, MADV_DONTNEED))
			die("MADV_DONTNEED");
}

/* What is no page of a process belongs to the kernel, and can be neither moved nor checked. */
static void take_kernel(struct occupant *o)
{
	kernel_take(o->count);
	o->count = 0;
}

static void take_forked(struct occupant *o)
{
	pages_fill(o, o->seed);
	child_start(o);
}

/* The pages are filled inside the area, so that their going leaves room there and not elsewhere. */
static void take_swapped(struct occupant *o)
{
	pages_fill(o, o->seed);
	advise(o, MADV_PAGEOUT, "MADV_PAGEOUT");
}

/*
 * A page stays in the swap cache after it was read from a zram only when its slot has another
 * user: with one, do_swap_page() goes past the swap cache (SWP_SYNCHRONOUS_IO). So it is shared,
 * after it was swapped out, because MADV_PAGEOUT leaves shared pages alone.
 */
static void prepare_swapcache(struct occupant *o)
{
	map_private(o);
	take_swapped(o);
	child_start(o);
}

static void prepare_memfd(struct occupant *o)
{
	o->fd = memfd_create("cma-occupy", MFD_CLOEXEC);
	if (o->fd < 0)
		die("memfd_create");
}

static void take_written(struct occupant *o)
{
	pages_write(o, o->seed);
}

/* The file on its disk, and nothing of it in memory; its name is gone already. */
static void prepare_file(struct occupant *o, uint32_t seed)
{
	o->fd = open(o->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (o->fd < 0 || unlink(o->path))
		die(o->path);
	pages_write(o, seed);
	if (fsync(o->fd))
		die("fsync");
	if (posix_fadvise(o->fd, 0, 0, POSIX_FADV_DONTNEED))
		die("POSIX_FADV_DONTNEED");
}

/*
 * While memory is short the kernel may write pages of the cache back and drop them; what is locked
 * it only writes back. Until then lost ones are read in again, into the area like the others.
 */
static void lock(struct occupant *o)
{
	if (o->map) {
		o->locked = o->map;
	} else {
		o->locked = mmap(NULL, o->count * PAGE, PROT_READ, MAP_SHARED, o->fd, 0);
		if (o->locked == MAP_FAILED)
			die("mmap");
	}
	if (mlock(o->locked, o->count * PAGE))
		die("mlock");
}

static void unlock(struct occupant *o)
{
	if (munlock(o->locked, o->count * PAGE))
		die("munlock");
	if (!o->map)
		munmap(o->locked, o->count * PAGE);
	o->locked = NULL;
}

static void take_clean(struct occupant *o)
{
	pages_touch(o);
	lock(o);
}

static void prepare_clean(struct occupant *o)
{
	prepare_file(o, o->seed);
	/* One page at a time, so that reading does not run ahead of what is counted. */
	posix_fadvise(o->fd, 0, 0, POSIX_FADV_RANDOM);
}

static uint32_t older(const struct occupant *o)
{
	return ~o->seed;
}

/*
 * What is on the disk is older than what will be in memory: losing the latter shows. While memory
 * is short the kernel may write pages back at once, so they get their last content after that.
 */
static void prepare_dirty(struct occupant *o)
{
	prepare_file(o, older(o));
}

static void take_dirty(struct occupant *o)
{
	pages_write(o, older(o));
	lock(o);
}

/* Nothing of a write-back that has begun is left to reach the pages after this. */
static void settle(const struct occupant *o)
{
	if (fsync(o->fd))
		die("fsync");
}

static void settle_dirty(struct occupant *o)
{
	settle(o);
	pages_write(o, o->seed);
	unlock(o);
}

static void prepare_mapped(struct occupant *o)
{
	prepare_dirty(o);
	map(o, MAP_SHARED);
}

static void settle_mapped(struct occupant *o)
{
	settle(o);
	pages_fill(o, o->seed);
	unlock(o);
}

static void take_mapped(struct occupant *o)
{
	pages_fill(o, older(o));
	lock(o);
}

const struct kind kinds[] = {
	{ "anon", "anonymous", false, map_private, take_filled, NULL },
	{ "mixed", "anonymous, half of it outside", false, prepare_mixed, take_filled, NULL },
	{ "scattered", "anonymous, half of it given back here and there", false, map_private,
	  take_filled, settle_scattered },
	{ "mlock", "anonymous and locked", false, map_private, take_locked, NULL },
	{ "shared", "anonymous, in a shared mapping", false, map_shared, take_filled, NULL },
	{ "memfd", "of a memory file, not mapped", false, prepare_memfd, take_written, NULL },
	{ "fork", "anonymous, shared with a child", false, map_private, take_forked, NULL },
	{ "swapcache", "in the swap cache, shared with a child; needs swap space", false,
	  prepare_swapcache, take_touched, NULL },
	{ "swapped", "compressed in zram; needs it as swap space", false, map_private,
	  take_swapped, NULL },
	{ "lazyfree", "anonymous, after MADV_FREE", false, map_private, take_filled,
	  settle_lazyfree },
	{ "half", "the same, every other page written to again", false, map_private, take_filled,
	  settle_half },
	{ "ashmem", "of /dev/ashmem, after ASHMEM_UNPIN", false, prepare_ashmem, take_filled,
	  settle_ashmem },
	{ "kernel", "none of those: page tables, pipes, stacks, files", false, NULL,
	  take_kernel, NULL },
	{ "clean", "page cache of --file, as it is on the disk", true, prepare_clean,
	  take_clean, unlock },
	{ "clean-mlock", "the same, and locked", true, prepare_clean, take_clean, NULL },
	{ "dirty", "page cache of --file, newer than the disk", true, prepare_dirty, take_dirty,
	  settle_dirty },
	{ "mapped", "as dirty, written through a shared mapping", true, prepare_mapped,
	  take_mapped, settle_mapped },
};

const size_t kind_count = sizeof(kinds) / sizeof(*kinds);

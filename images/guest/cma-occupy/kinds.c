// SPDX-License-Identifier: GPL-2.0-only
/* The kinds of page that can be held. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "occupant.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "report.h"

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
	pages_fill(o);
}

static void take_touched(struct occupant *o)
{
	pages_touch(o);
}

static void take_locked(struct occupant *o)
{
	if (mlock(o->map, o->count * PAGE))
		die("mlock");
	pages_fill(o);
}

static void take_lazyfree(struct occupant *o)
{
	pages_fill(o);
	advise(o, MADV_FREE, "MADV_FREE");
}

static void take_forked(struct occupant *o)
{
	pages_fill(o);
	child_start(o);
}

static void swap_out(struct occupant *o)
{
	advise(o, MADV_PAGEOUT, "MADV_PAGEOUT");
}

static void prepare_filled(struct occupant *o)
{
	map_private(o);
	pages_fill(o);
}

/*
 * A page stays in the swap cache after it was read from a zram only when its slot has another
 * user: with one, do_swap_page() goes past the swap cache (SWP_SYNCHRONOUS_IO). So it is shared,
 * after it was swapped out, because MADV_PAGEOUT leaves shared pages alone.
 */
static void prepare_swapcache(struct occupant *o)
{
	prepare_filled(o);
	swap_out(o);
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

static void prepare_clean(struct occupant *o)
{
	prepare_file(o, o->seed);
	/* One page at a time, so that reading does not run ahead of what is counted. */
	posix_fadvise(o->fd, 0, 0, POSIX_FADV_RANDOM);
}

/* What is on the disk is older than what will be in memory: losing the latter shows. */
static void prepare_dirty(struct occupant *o)
{
	prepare_file(o, ~o->seed);
}

static void prepare_mapped(struct occupant *o)
{
	prepare_dirty(o);
	map(o, MAP_SHARED);
}

const struct kind kinds[] = {
	{ "anon", "anonymous", false, map_private, take_filled },
	{ "mlock", "anonymous and locked", false, map_private, take_locked },
	{ "shared", "anonymous, in a shared mapping", false, map_shared, take_filled },
	{ "memfd", "of a memory file, not mapped", false, prepare_memfd, take_written },
	{ "fork", "anonymous, shared with a child after a fork", false, map_private, take_forked },
	{ "swapcache", "swapped out, read again and still in the swap cache (needs swap space)",
	  false, prepare_swapcache, take_touched },
	{ "swapped", "swapped out; with zram the compressed store goes to the area",
	  false, prepare_filled, swap_out },
	{ "lazyfree", "anonymous, after MADV_FREE", false, map_private, take_lazyfree },
	{ "clean", "page cache of --file, as it is on the disk", true, prepare_clean,
	  take_touched },
	{ "dirty", "page cache of --file, newer than the disk", true, prepare_dirty, take_written },
	{ "mapped", "the same, written through a shared mapping", true, prepare_mapped,
	  take_filled },
};

const size_t kind_count = sizeof(kinds) / sizeof(*kinds);

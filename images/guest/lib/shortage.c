// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE

#include "shortage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/dma-heap.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <unistd.h>

#include "frames.h"
#include "report.h"
#include "setting.h"
#include "text.h"

#define HEAP "/dev/dma_heap/system"
#define MIB (1ULL << 20)
#define MAX_CHUNKS 512

/*
 * A page that is taken from a block of another migratetype raises the zone's watermarks for a
 * while (boost_watermark() in mm/page_alloc.c, since 5.0, 1c30844d2dfe "mm: reclaim small amounts
 * of memory when an external fragmentation event occurs"), here by 5 MiB: close to an end of
 * memory with megabytes free. Setting the scale factor, be it to what it is, ends a boost that
 * there is (setup_per_zone_wmarks()).
 */
#define BOOST "/proc/sys/vm/watermark_boost_factor"
#define SCALE "/proc/sys/vm/watermark_scale_factor"
/* Should memory end all the same, it is to be this process that goes. */
#define OOM "/proc/self/oom_score_adj"

static cpu_set_t cpus;	/* where this process may run otherwise */
static char boost[SETTING_SIZE], scale[SETTING_SIZE], oom[SETTING_SIZE];

/* The memory outside CMA: dma-bufs, by descriptor. */
static int chunks[MAX_CHUNKS];
static size_t chunks_used;

/* What was left elsewhere. */
#define BATCH 64UL
static unsigned char *scraps;
static size_t scraps_size;

/* The other areas: what was taken from each of them. */
static const struct area *taken_from[MAX_AREAS];
static uint64_t taken_pages[MAX_AREAS];
static size_t taken;

/* Bytes that are free and not CMA's: of low memory, and of what is for movable pages or users. */
struct outside {
	uint64_t low;
	uint64_t high;
};

static struct outside free_outside(void)
{
	char *rest = text_of_existing("/proc/zoneinfo"), *line, zone[32] = "";
	struct outside found = { 0 };
	uint64_t pages;

	while ((line = text_line(&rest))) {
		uint64_t *into = strcmp(zone, "HighMem") && strcmp(zone, "Movable") ?
				 &found.low : &found.high;

		if (sscanf(line, "Node %*u, zone %31s", zone) == 1)
			continue;
		if (sscanf(line, " nr_free_pages %" SCNu64, &pages) == 1)
			*into += pages * PAGE;
		/* Behind it. The counters are each a little off, so that CMA's may be larger. */
		if (sscanf(line, " nr_free_cma %" SCNu64, &pages) == 1)
			*into -= MIN(*into, pages * PAGE);
	}
	return found;
}

/*
 * What the margin is for, page tables, inodes, buffers, stacks, comes from low memory, so that this
 * is what counts. The heap prefers large blocks of any zone to small ones of high memory: were all
 * free memory counted, it would take the margin out of low memory, and leave it in such small ones,
 * which movable pages then use up.
 */
static void take_outside(uint64_t margin)
{
	int heap = open(HEAP, O_RDWR | O_CLOEXEC);
	uint64_t left;

	if (heap < 0)
		die(HEAP);
	while ((left = free_outside().low) > margin + MIB && chunks_used < MAX_CHUNKS) {
		struct dma_heap_allocation_data arg = { .fd_flags = O_RDWR | O_CLOEXEC };

		/* Large ones at first; what is left may have changed meanwhile. */
		arg.len = (left - margin) / 2 < MIB ? MIB : (left - margin) / 2 / MIB * MIB;
		if (arg.len > 64 * MIB)
			arg.len = 64 * MIB;
		if (ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &arg))
			die(HEAP);
		chunks[chunks_used++] = arg.fd;
	}
	close(heap);
}

/* Take all free pages of an area, the largest free range first. */
static void take_area(const struct area *area)
{
	uint64_t pages;

	taken_from[taken] = area;
	taken_pages[taken++] = 0;
	while ((pages = area_get(area, "maxchunk"))) {
		if (area_set(area, "alloc", pages))
			die(area->name);
		taken_pages[taken - 1] += pages;
	}
}

/*
 * Use up what movable pages would still be taken from before the area: free pages on the CPUs'
 * lists, which alloc_contig_range() drains (drain_all_pages()), and scraps of another zone, where
 * the heap found no large pages any more. Batches of pages are taken until one lies in CMA
 * as a whole; that one is given back.
 */
static void take_scraps(const struct area *areas, size_t count, uint64_t margin)
{
	uint64_t frames[BATCH];
	size_t inside = 0;

	for (size_t i = 0; i < count; i++)
		if (area_get(&areas[i], "maxchunk") &&
		    (area_set(&areas[i], "alloc", 1) || area_set(&areas[i], "free", 1)))
			die(areas[i].name);
	scraps_size = (free_outside().high + 2 * margin) / (BATCH * PAGE) * (BATCH * PAGE);
	scraps = mmap(NULL, scraps_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (scraps == MAP_FAILED)
		die("mmap");
	for (size_t at = 0; at < scraps_size && inside < BATCH; at += BATCH * PAGE) {
		inside = 0;
		for (size_t i = 0; i < BATCH; i++)
			scraps[at + i * PAGE] = 1;
		frames_of(scraps + at, BATCH, frames);
		for (size_t i = 0; i < BATCH; i++)
			inside += areas_have(areas, count, frames[i]);
		if (inside == BATCH && madvise(scraps + at, BATCH * PAGE, MADV_DONTNEED))
			die("MADV_DONTNEED");
	}
}

/* The other CPUs' lists of free pages stay out of it when all pages are taken on one CPU. */
static void stay_on_cpu(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	if (sched_getaffinity(0, sizeof(cpus), &cpus) || sched_setaffinity(0, sizeof(one), &one))
		die("sched_setaffinity");
}

static void must_replace(const char *path, const char *value, char *old)
{
	if (!setting_replace(path, value, old))
		die(path);
}

void shortage_begin(const struct area *areas, size_t count, const struct area *keep,
		    uint64_t margin)
{
	static int registered;

	if (!registered++ && atexit(shortage_end))
		die("atexit");
	stay_on_cpu();
	must_replace(OOM, "1000", oom);
	must_replace(BOOST, "0", boost);
	must_replace(SCALE, NULL, scale);
	for (size_t i = 0; keep && i < count; i++)
		if (&areas[i] != keep)
			take_area(&areas[i]);
	take_outside(margin);
	take_scraps(areas, count, margin);
}

static void let_go(void)
{
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("sched_setaffinity");
	if (scraps)
		munmap(scraps, scraps_size);
	scraps = NULL;
	while (chunks_used)
		close(chunks[--chunks_used]);
}

void shortage_disown(void)
{
	if (!*boost)
		return;
	let_go();
	setting_put(OOM, oom);
	taken = 0;
	*boost = 0;
}

void shortage_end(void)
{
	if (!*boost)
		return;
	let_go();
	for (; taken; taken--)
		if (taken_pages[taken - 1] &&
		    area_set(taken_from[taken - 1], "free", taken_pages[taken - 1]))
			fprintf(stderr, "%s: %" PRIu64 " pages of %s stay allocated\n",
				program_invocation_short_name, taken_pages[taken - 1],
				taken_from[taken - 1]->name);
	setting_put(BOOST, boost);
	setting_put(OOM, oom);
	*boost = 0;
}

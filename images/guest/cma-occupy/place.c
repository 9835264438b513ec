// SPDX-License-Identifier: GPL-2.0-only
/* Where the pages lie. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "occupant.h"

#include <linux/kernel-page-flags.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "report.h"

/*
 * The frames of a file's pages that are in memory, through a mapping for this moment. Touching
 * what is in the page cache reads nothing in; what is not there stays away.
 */
static void cached_frames(const struct occupant *o, uint64_t *frames)
{
	size_t size = o->count * PAGE;
	unsigned char *resident = malloc(o->count);
	volatile unsigned char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, o->fd, 0);

	if (!resident || map == MAP_FAILED)
		die("mmap");
	if (mincore((void *)map, size, resident))
		die("mincore");
	for (size_t i = 0; i < o->count; i++)
		if (resident[i] & 1)
			(void)map[i * PAGE];
	frames_of((void *)map, o->count, frames);
	munmap((void *)map, size);
	free(resident);
}

/* Whether a frame is where the pages are to be. */
bool inside(const struct occupant *o, uint64_t frame)
{
	return o->area ? area_has(o->area, frame) : areas_have(o->areas, o->area_count, frame);
}

void place_now(const struct occupant *o, uint64_t *frames)
{
	if (!o->count)
		return;
	if (o->map)
		frames_of(o->map, o->count, frames);
	else
		cached_frames(o, frames);
}

void place_print(const struct occupant *o, const uint64_t *frames, FILE *to)
{
	size_t within = 0, in_cma = 0, moved = 0, absent = 0, dirty = 0, swapcache = 0;

	for (size_t i = 0; i < o->count; i++) {
		uint64_t flags;

		if (frames[i] == NO_FRAME) {
			absent++;
			continue;
		}
		within += inside(o, frames[i]);
		in_cma += areas_have(o->areas, o->area_count, frames[i]);
		moved += o->frames[i] != NO_FRAME && frames[i] != o->frames[i];
		frames_flags(frames[i], 1, &flags);
		dirty += flags >> KPF_DIRTY & 1;
		swapcache += flags >> KPF_SWAPCACHE & 1;
	}
	fprintf(to, "\"pages\": %zu, \"inside\": %zu, \"in_cma\": %zu, \"moved\": %zu, "
		"\"absent\": %zu, \"dirty\": %zu, \"swapcache\": %zu", o->count, within, in_cma,
		moved, absent, dirty, swapcache);
}

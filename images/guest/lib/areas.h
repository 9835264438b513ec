/* SPDX-License-Identifier: GPL-2.0-only */
/* The areas of the running kernel, as debugfs has them (CONFIG_CMA_DEBUGFS). */
#ifndef AREAS_H
#define AREAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_AREAS 32

struct area {
	char name[64];		/* as sysfs has it too: "linux,cma", "private@50400000" */
	char directory[128];	/* of debugfs */
	uint64_t base_pfn;
	uint64_t count;		/* pages */
	unsigned int order_per_bit;	/* of its bitmap */
};

/* The activated areas, ordered by address; returns how many. One that is not has no pages. */
size_t areas_read(struct area areas[MAX_AREAS]);

/* The one called @name; ends the program with the names there are when there is none. */
const struct area *area_named(const struct area *areas, size_t count, const char *name);

/* The number in a file of the area's directory. */
uint64_t area_get(const struct area *area, const char *file);

/* Returns 0 or -1 with errno. */
int area_set(const struct area *area, const char *file, uint64_t value);

/* How many words an array for its bitmap must have: more than its bits take, to see too many. */
static inline size_t area_words(const struct area *area)
{
	return (area->count >> area->order_per_bit) / 32 + 2;
}

/* Read the bitmap, the lowest page in the lowest bit; returns the words that it has. */
size_t area_bitmap(const struct area *area, uint32_t *words);

/* Print the runs of set bits, as a JSON array of [first, length]. */
void print_runs(const uint32_t *words, size_t count);

static inline bool area_has(const struct area *area, uint64_t pfn)
{
	return pfn - area->base_pfn < area->count;
}

/* Whether any of them has it. */
bool areas_have(const struct area *areas, size_t count, uint64_t pfn);

#endif

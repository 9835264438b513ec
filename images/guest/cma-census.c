// SPDX-License-Identifier: GPL-2.0-only
/*
 * cma-census: what the pages of the CMA areas are used for, one JSON object a line for each area.
 */
#define _GNU_SOURCE

#include <getopt.h>
#include <inttypes.h>
#include <linux/kernel-page-flags.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "areas.h"
#include "frames.h"
#include "report.h"

static const char usage_text[] =
	"usage: cma-census [AREA]...\n"
	"\n"
	"  -h, --help      this text\n"
	"\n"
	"What each page of the areas (all of them by default) is, by /proc/kpageflags and the area's\n"
	"bitmap: buffer (allocated through CMA), free (of the buddy allocator), movable (on an LRU\n"
	"list, mapped, or anonymous), slab, page_table, reserved, or other. Pages on the CPUs' lists\n"
	"of free pages, or on their way to an LRU list, are `other' too: drain them first.\n"
	"Exit status: 0 done, 1 a system call failed, 2 usage.\n"
	"\n"
	"Example: cma-census linux,cma\n";

enum class { BUFFER, FREE, MOVABLE, SLAB, PAGE_TABLE, RESERVED, OTHER, CLASSES };

static const char * const class_names[CLASSES] = {
	"buffer", "free", "movable", "slab", "page_table", "reserved", "other",
};

#define KPF(name) (1ULL << KPF_##name)

static enum class class_of(uint64_t flags)
{
	if (flags & KPF(SLAB))
		return SLAB;
	if (flags & KPF(PGTABLE))
		return PAGE_TABLE;
	if (flags & KPF(BUDDY))
		return FREE;
	if (flags & (KPF(LRU) | KPF(UNEVICTABLE) | KPF(MMAP) | KPF(ANON) | KPF(SWAPBACKED)))
		return MOVABLE;
	if (flags & 1ULL << 32) /* KPF_RESERVED of include/linux/kernel-page-flags.h */
		return RESERVED;
	return OTHER;
}

/* The area's bitmap: 32-bit words in decimal, the lowest page first, a bit for each page. */
static uint32_t *bitmap_read(const struct area *area)
{
	size_t words = (area->count + 31) / 32;
	uint32_t *bitmap = calloc(words, sizeof(*bitmap));
	FILE *from = area_open(area, "bitmap");

	if (!bitmap)
		die("calloc");
	for (size_t i = 0; i < words; i++)
		if (fscanf(from, "%" SCNu32, &bitmap[i]) != 1)
			die(area->name);
	fclose(from);
	return bitmap;
}

static void census(const struct area *area)
{
	uint64_t *flags = calloc(area->count, sizeof(*flags));
	uint32_t *bitmap = bitmap_read(area);
	size_t pages[CLASSES] = { 0 };

	if (!flags)
		die("calloc");
	frames_flags(area->base_pfn, area->count, flags);
	for (size_t i = 0; i < area->count; i++)
		pages[bitmap[i / 32] >> i % 32 & 1 ? BUFFER : class_of(flags[i])]++;
	printf("{\"area\": \"%s\"", area->name);
	for (size_t i = 0; i < CLASSES; i++)
		printf(", \"%s\": %zu", class_names[i], pages[i]);
	puts("}");
	free(bitmap);
	free(flags);
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "help", no_argument, NULL, 'h' },
		{ 0 }
	};
	static struct area areas[MAX_AREAS];
	size_t count;
	int letter;

	while ((letter = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		if (letter != 'h')
			return EXIT_USAGE;
		fputs(usage_text, stdout);
		return EXIT_OK;
	}
	count = areas_read(areas);
	for (size_t i = 0; optind == argc && i < count; i++)
		census(&areas[i]);
	for (; optind < argc; optind++)
		census(area_named(areas, count, argv[optind]));
	if (fflush(stdout))
		die("standard output");
	return EXIT_OK;
}

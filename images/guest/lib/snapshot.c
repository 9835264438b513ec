// SPDX-License-Identifier: GPL-2.0-only
/*
 * The counters of the zones are compared with the free lists and with the flags of the pages, so
 * all of it must be of one moment: it is read between two readings of the counters (their per-CPU
 * parts folded in by stat_refresh), and again until these two agree. "settled" says whether they
 * did in the end.
 */

#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64

#include "snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/kernel-page-flags.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "areas.h"
#include "frames.h"
#include "report.h"
#include "setting.h"
#include "text.h"

#define SYSFS "/sys/kernel/mm/cma"
#define KPAGEFLAGS "/proc/kpageflags"
#define STAT_REFRESH "/proc/sys/vm/stat_refresh"
#define LIST_FRACTION "/proc/sys/vm/percpu_pagelist_high_fraction"	/* 5.14, 74f44822097c */
#define LONGEST_LISTS "8"	/* MIN_PERCPU_PAGELIST_HIGH_FRACTION: an eighth of each zone */
#define READINGS 200
#define TIMES 3	/* that lists and counters are to differ before it is told */
#define PAUSE_US 2000
#define MAX_ZONES 16
#define MAX_TYPES 8
#define MAX_ODD 4
#define NAME 64
#define MISSING UINT64_MAX
#define ARRAY_SIZE(a) (sizeof(a) / sizeof(*(a)))

/* A number of a file, under the kernel's name for it. */
struct number {
	const char *key;
	uint64_t value;
};

enum { FREE, MOVABLE, UNMOVABLE, UNNAMED, CLASSES };

static const char *const class_names[CLASSES] = { "free", "movable", "unmovable", "unnamed" };

/* What changes of an area. */
struct view {
	uint64_t used, maxchunk;
	uint32_t *bitmap;
	size_t words;
	unsigned long pages[2][CLASSES];	/* [whether the bit is set] */
	struct { uint64_t pfn, flags; } odd[MAX_ODD];
	unsigned int odds;
};

enum { Z_FREE, Z_FREE_CMA, Z_ZSPAGES, Z_SPANNED, Z_PRESENT, Z_MANAGED, Z_CMA, Z_NUMBERS };

static const char *const zone_keys[Z_NUMBERS] = {
	"nr_free_pages", "nr_free_cma", "nr_zspages", "spanned", "present", "managed", "cma",
};

struct zone {
	int node;
	char name[NAME];
	uint64_t numbers[Z_NUMBERS];
	unsigned long start_pfn, per_cpu, cpus, user;
	unsigned long free[MAX_TYPES], blocks[MAX_TYPES];
	bool capped;	/* whether a free list was too long for the kernel to count */
};

static struct area areas[MAX_AREAS];
static struct view views[MAX_AREAS];
static struct zone zones[MAX_ZONES];
static char type_names[MAX_TYPES][NAME];
static size_t area_count;
static unsigned int zone_count, type_count;
static unsigned long block_pages;

static struct number meminfo[] = {
	{ "MemTotal:", MISSING }, { "MemFree:", MISSING }, { "CmaTotal:", MISSING },
	{ "CmaFree:", MISSING },
};

static struct number vmstat[] = {
	{ "nr_free_pages", MISSING }, { "nr_free_cma", MISSING },
	{ "cma_alloc_success", MISSING }, { "cma_alloc_fail", MISSING },
};

/*
 * The number in a file, MISSING when there is no such file. The counters of sysfs have 64 bits, and
 * one request that fails can count for 2^32 - 1 pages.
 */
__attribute__((format(printf, 1, 2)))
static uint64_t number_in(const char *format, ...)
{
	uint64_t value;
	char path[PATH_MAX];
	char *text, *end;
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	text = text_of(path);
	if (!text && errno == ENOENT)
		return MISSING;
	if (!text)
		die(path);
	value = strtoull(text, &end, 10);
	if (end == text)
		die_of(EIO, path);
	return value;
}

/* Take a line "key value" apart; false when it is another. */
static bool key_value(char *line, char **key, uint64_t *value)
{
	char *end, *number;

	*key = text_word(&line);
	number = text_word(&line);
	if (!number)
		return false;
	*value = strtoull(number, &end, 10);
	return end != number;
}

/* Fill in those numbers of a "key value" file that it has. */
static void read_numbers(const char *path, struct number *numbers, size_t count)
{
	char *text = text_of_existing(path), *line, *key;
	uint64_t value;

	while ((line = text_line(&text))) {
		if (!key_value(line, &key, &value))
			continue;
		for (size_t i = 0; i < count; i++)
			if (!strcmp(numbers[i].key, key))
				numbers[i].value = value;
	}
}

static struct zone *zone_named(int node, const char *name)
{
	for (unsigned int i = 0; i < zone_count; i++)
		if (zones[i].node == node && !strcmp(zones[i].name, name))
			return &zones[i];
	if (zone_count == MAX_ZONES)
		die_of(E2BIG, "zones");
	zones[zone_count] = (struct zone){ .node = node };
	snprintf(zones[zone_count].name, NAME, "%s", name);
	for (size_t i = 0; i < Z_NUMBERS; i++)
		zones[zone_count].numbers[i] = MISSING;
	return &zones[zone_count++];
}

/* The zone that a line names, "Node 0, zone Normal" or "Node 0, zone Normal, ..."; NULL for none. */
static struct zone *zone_of(char **line)
{
	char *word = text_word(line), *node, *name;

	if (!word || strcmp(word, "Node"))
		return NULL;
	node = text_word(line);
	word = text_word(line);
	name = text_word(line);
	if (!name || strcmp(word, "zone"))
		return NULL;
	name[strcspn(name, ",")] = '\0';
	return zone_named(atoi(node), name);
}

static void zone_number(struct zone *zone, const char *key, uint64_t value)
{
	if (!strcmp(key, "count:")) {
		zone->per_cpu += value;
		zone->cpus++;
	}
	if (!strncmp(key, "nr_zone_", 8) && strcmp(key, "nr_zone_write_pending"))
		zone->user += value;
	if (!strcmp(key, "start_pfn:"))
		zone->start_pfn = value;
	for (size_t i = 0; i < Z_NUMBERS; i++)
		if (!strcmp(key, zone_keys[i]))
			zone->numbers[i] = value;
}

static void read_zoneinfo(void)
{
	char *text = text_of_existing("/proc/zoneinfo"), *line, *key;
	struct zone *zone = NULL;
	uint64_t value;

	while ((line = text_line(&text))) {
		if (!strncmp(line, "Node ", 5)) {
			zone = zone_of(&line);
			if (!zone)
				continue;
			zone->per_cpu = zone->cpus = zone->user = 0;
		} else if (zone && key_value(line, &key, &value)) {
			zone_number(zone, key, value);
		}
	}
}

/*
 * Pages on the free lists of one migratetype: "Node 0, zone Normal, type Movable" and columns,
 * which are blocks of order 0, 1, ...
 */
static void read_free_list(char *line)
{
	struct zone *zone = zone_of(&line);
	char *type, *end;
	unsigned int order = 0, i = 0;

	if (!zone || !text_word(&line))
		return;
	type = text_word(&line);
	while (i < type_count && strcmp(type_names[i], type))
		i++;
	if (i == MAX_TYPES)
		return;
	if (i == type_count)
		snprintf(type_names[type_count++], NAME, "%s", type);
	zone->free[i] = 0;
	zone->capped |= strchr(line, '>') != NULL;	/* over 100000 blocks are not counted */
	for (;; line = end) {
		unsigned long blocks = strtoul(line, &end, 10);

		if (end == line)
			break;
		zone->free[i] += blocks << order++;
	}
}

/* A line of "Number of blocks type": the columns are the types, in the order of the lists above. */
static void read_blocks(char *line)
{
	struct zone *zone = zone_of(&line);

	for (unsigned int i = 0; zone && i < type_count; i++)
		zone->blocks[i] = strtoul(line, &line, 10);
}

static void read_pagetypeinfo(void)
{
	static const char page_block[] = "Pages per block:";
	enum { LISTS, BLOCKS, REST } part = LISTS;
	char *text = text_of_existing("/proc/pagetypeinfo"), *line;

	for (unsigned int i = 0; i < zone_count; i++)
		zones[i].capped = false;
	while ((line = text_line(&text))) {
		if (!strncmp(line, page_block, strlen(page_block)))
			block_pages = strtoul(line + strlen(page_block), NULL, 10);
		if (!strncmp(line, "Number of blocks", 16))
			part = BLOCKS;
		else if (!strncmp(line, "Number of mixed", 15))
			part = REST;
		else if (part == LISTS && strstr(line, ", type "))
			read_free_list(line);
		else if (part == BLOCKS)
			read_blocks(line);
	}
}

#define KPF(name) (1ull << KPF_##name)

static int class_of(uint64_t flags)
{
	if (flags & KPF(BUDDY))
		return FREE;
	if (flags & (KPF(SLAB) | KPF(PGTABLE) | KPF(OFFLINE) | KPF(HWPOISON) | KPF(NOPAGE) |
		     KPF(ZERO_PAGE) | 1ull << 32 /* KPF_RESERVED, for the kernel's own hackers */))
		return UNMOVABLE;
	if (flags & (KPF(LRU) | KPF(ANON) | KPF(MMAP) | KPF(SWAPBACKED) | KPF(UPTODATE)))
		return MOVABLE;
	return UNNAMED;
}

static void classify(const struct area *area, struct view *view, uint64_t pfn, uint64_t flags)
{
	size_t bit = (pfn - area->base_pfn) >> area->order_per_bit;
	bool taken = bit / 32 < view->words && view->bitmap[bit / 32] >> bit % 32 & 1;
	int class = class_of(flags);

	view->pages[taken][class]++;
	/* What no page of an area may be: free or a user's although taken, or the kernel's own. */
	if ((taken ? class != UNNAMED : class == UNMOVABLE) && view->odds < MAX_ODD) {
		view->odd[view->odds].pfn = pfn;
		view->odd[view->odds++].flags = flags;
	}
}

static void read_flags(const struct area *area, struct view *view)
{
	static uint64_t flags[4096];
	uint64_t end = area->base_pfn + area->count, pfn = area->base_pfn;

	memset(view->pages, 0, sizeof(view->pages));
	view->odds = 0;
	while (pfn < end) {
		size_t some = end - pfn < ARRAY_SIZE(flags) ? end - pfn : ARRAY_SIZE(flags);

		frames_flags(pfn, some, flags);
		for (size_t i = 0; i < some; i++)
			classify(area, view, pfn++, flags[i]);
	}
}

static void read_area(const struct area *area, struct view *view)
{
	view->used = area_get(area, "used");
	view->maxchunk = area_get(area, "maxchunk");
	view->words = area_bitmap(area, view->bitmap);
}

/* The areas, and room for what changes of them. */
static void find_areas(void)
{
	area_count = areas_read(areas);
	for (size_t i = 0; i < area_count; i++) {
		views[i].bitmap = calloc(area_words(&areas[i]), sizeof(*views[i].bitmap));
		if (!views[i].bitmap)
			die("memory");
	}
}

/* What must not change while all is read: of the zones, and of CMA. */
struct sums {
	uint64_t free[MAX_ZONES], free_cma[MAX_ZONES];
	uint64_t used[MAX_AREAS];
};

/* Fold the per-CPU parts of the counters in: each CPU does so, and is waited for. */
static void fold_counters(void)
{
	int fd = open(STAT_REFRESH, O_RDONLY | O_CLOEXEC);
	char byte;

	/* A kernel for one CPU has no parts to fold, and no such file. */
	if (fd >= 0 ? read(fd, &byte, 1) < 0 : errno != ENOENT)
		die(STAT_REFRESH);
	if (fd >= 0)
		close(fd);
}

static struct sums read_counters(void)
{
	struct sums sums = { 0 };

	read_zoneinfo();
	for (unsigned int i = 0; i < zone_count; i++) {
		sums.free[i] = zones[i].numbers[Z_FREE];
		sums.free_cma[i] = zones[i].numbers[Z_FREE_CMA];
	}
	for (size_t i = 0; i < area_count; i++)
		sums.used[i] = area_get(&areas[i], "used");
	return sums;
}

static bool same_cma(const struct sums *a, const struct sums *b)
{
	return !memcmp(a->free_cma, b->free_cma, sizeof(a->free_cma)) &&
	       !memcmp(a->used, b->used, sizeof(a->used));
}

/*
 * Read all but the flags of the pages; true when it is of one moment, whose counters are @sums.
 * @fold: also behind it, so that a change too small for a CPU to tell the others is seen.
 */
static bool read_all(struct sums *sums, bool fold)
{
	struct sums before;

	fold_counters();
	before = read_counters();
	read_numbers("/proc/meminfo", meminfo, ARRAY_SIZE(meminfo));
	read_numbers("/proc/vmstat", vmstat, ARRAY_SIZE(vmstat));
	for (size_t i = 0; i < area_count; i++)
		read_area(&areas[i], &views[i]);
	read_pagetypeinfo();
	if (fold)
		fold_counters();
	*sums = read_counters();
	return same_cma(&before, sums) && !memcmp(before.free, sums->free, sizeof(before.free));
}

/*
 * Read the flags of the pages, for which the counters of CMA alone must hold still. This takes so
 * long that others change in most cases; the zones keep the numbers of read_all().
 */
static bool read_pages(const struct sums *sums)
{
	static struct zone kept[MAX_ZONES];
	struct sums after;

	for (size_t i = 0; i < area_count; i++)
		read_flags(&areas[i], &views[i]);
	memcpy(kept, zones, sizeof(kept));
	fold_counters();
	after = read_counters();
	memcpy(zones, kept, sizeof(kept));
	return same_cma(sums, &after);
}

static void print_field(const char *key, uint64_t value)
{
	if (value != MISSING)
		printf(", \"%.*s\": %" PRIu64, (int)strcspn(key, ":"), key, value);
}

static void print_system(bool settled, int readings)
{
	printf("{\"system\": {\"settled\": %s, \"readings\": %d, \"page_size\": %ld, "
	       "\"block_pages\": %lu",
	       settled ? "true" : "false", readings, sysconf(_SC_PAGESIZE), block_pages);
	for (size_t i = 0; i < ARRAY_SIZE(meminfo); i++)
		print_field(meminfo[i].key, meminfo[i].value);
	for (size_t i = 0; i < ARRAY_SIZE(vmstat); i++)
		print_field(vmstat[i].key, vmstat[i].value);
	printf(", \"zones\": %u, \"areas\": %zu}}\n", zone_count, area_count);
}

static void print_types(const char *key, const unsigned long *values)
{
	printf(", \"%s\": {", key);
	for (unsigned int i = 0; i < type_count; i++)
		printf("%s\"%s\": %lu", i ? ", " : "", type_names[i], values[i]);
	printf("}");
}

static void print_zone(const struct zone *zone)
{
	printf("{\"zone\": {\"node\": %d, \"name\": \"%s\", \"start_pfn\": %lu, "
	       "\"per_cpu\": %lu, \"cpus\": %lu, \"user\": %lu",
	       zone->node, zone->name, zone->start_pfn, zone->per_cpu, zone->cpus, zone->user);
	for (size_t i = 0; i < Z_NUMBERS; i++)
		print_field(zone_keys[i], zone->numbers[i]);
	if (!zone->capped)
		print_types("free", zone->free);
	print_types("blocks", zone->blocks);
	printf("}}\n");
}

static void print_classes(const char *key, const unsigned long *pages)
{
	printf(", \"%s\": {", key);
	for (size_t i = 0; i < CLASSES; i++)
		printf("%s\"%s\": %lu", i ? ", " : "", class_names[i], pages[i]);
	printf("}");
}

static void print_area(const struct area *area, const struct view *view, bool flags)
{
	static const char *const counters[] = {
		"alloc_pages_success", "alloc_pages_fail", "release_pages_success",
	};

	printf("{\"area\": {\"name\": \"%s\", \"base_pfn\": %" PRIu64 ", \"count\": %" PRIu64
	       ", \"order_per_bit\": %u, \"used\": %" PRIu64 ", \"maxchunk\": %" PRIu64,
	       area->name, area->base_pfn, area->count, area->order_per_bit, view->used,
	       view->maxchunk);
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
		print_field(counters[i], number_in(SYSFS "/%s/%s", area->name, counters[i]));
	printf(", \"set\": ");
	print_runs(view->bitmap, view->words);
	if (flags) {
		print_classes("taken", view->pages[true]);
		print_classes("open", view->pages[false]);
		printf(", \"odd\": [");
		for (unsigned int i = 0; i < view->odds; i++)
			printf("%s[%" PRIu64 ", %" PRIu64 "]", i ? ", " : "", view->odd[i].pfn,
			       view->odd[i].flags);
		printf("]");
	}
	printf("}}\n");
}

static void print_all(bool settled, int readings, bool flags)
{
	print_system(settled, readings);
	for (unsigned int i = 0; i < zone_count; i++)
		if (zones[i].numbers[Z_PRESENT])
			print_zone(&zones[i]);
	for (size_t i = 0; i < area_count; i++)
		print_area(&areas[i], &views[i], flags);
	if (fflush(stdout))
		die("standard output");
}

/*
 * Whether the free lists hold what the counters say; those that are too long to be counted do. What
 * is isolated is on a list of its own, and no counter has it.
 */
static bool lists_agree(void)
{
	for (unsigned int i = 0; i < zone_count; i++) {
		const uint64_t *numbers = zones[i].numbers;
		uint64_t all = 0, cma = 0, isolated = 0;

		if (!numbers[Z_PRESENT] || zones[i].capped)
			continue;
		for (unsigned int type = 0; type < type_count; type++) {
			all += zones[i].free[type];
			if (!strcmp(type_names[type], "CMA"))
				cma = zones[i].free[type];
			if (!strcmp(type_names[type], "Isolate"))
				isolated = zones[i].free[type];
		}
		if (isolated || all != numbers[Z_FREE] || cma != numbers[Z_FREE_CMA])
			return false;
	}
	return true;
}

/*
 * What is taken and given back between the two readings of the counters shows in the lists alone, of
 * which pagetypeinfo tells one order after the other. So where they differ it is read again; what
 * the kernel counts wrongly differs each time.
 */
void snapshot_print(bool pages)
{
	/* It is there with CONFIG_PROC_PAGE_MONITOR. */
	bool flags = pages && !access(KPAGEFLAGS, F_OK);
	int readings = 0, differing = 0;
	struct sums sums;
	bool settled;

	if (!area_count)
		find_areas();
	do {
		if (readings)
			usleep(PAUSE_US);
		settled = read_all(&sums, true) && (!flags || read_pages(&sums));
	} while (++readings < READINGS &&
		 !(settled && (lists_agree() || ++differing == TIMES)));
	print_all(settled, readings, flags);
}

static void set_policy(int policy, int priority)
{
	const struct sched_param param = { .sched_priority = priority };

	if (sched_setscheduler(0, policy, &param))
		die("sched_setscheduler");
}

/*
 * Behind the folding nothing is waited for, and a process of the real-time class is not put off for
 * one of the kernel's workers. A change that no second folding shows makes the counters and the
 * lists differ, which whoever compares them sees.
 *
 * That would be so with what a CPU gives back of its list of free pages behind its own folding,
 * since the limits of these lists go down by themselves (decay_pcp_high() in
 * refresh_cpu_vm_stats(), 6.7, 51a755c56dc0 "mm: tune PCP high automatically"). Not while they are
 * fixed, here to more than a list has. And to fold, the kernel may start further workers
 * (maybe_create_worker() in kernel/workqueue.c), which takes pages: it is read again if that may be.
 */
void snapshot_print_at_once(void)
{
	static char fraction[SETTING_SIZE];
	bool settled, fixed;
	struct sums sums;
	int readings = 0;

	set_policy(SCHED_FIFO, 1);
	fixed = setting_replace(LIST_FRACTION, LONGEST_LISTS, fraction);
	if (!area_count)
		find_areas();
	do
		settled = read_all(&sums, false);
	while (++readings < TIMES && !(settled && lists_agree()));
	if (fixed)
		setting_put(LIST_FRACTION, fraction);
	set_policy(SCHED_OTHER, 0); /* whoever prints is no better than others */
	print_all(settled, readings, false);
}

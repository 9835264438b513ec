// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading the page allocator's own books.
 *
 * struct zone is public (linux/mmzone.h), and so are its lock, its lists of free pages, the types
 * of its pageblocks and the lists of each cpu. No counter says where a page is; the lists do.
 */

#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/percpu.h>
#include <linux/spinlock.h>
#include <linux/vmstat.h>

#include "cma_compat.h"
#include "pages.h"

/* A reading that has to settle is taken again, a millisecond later, so many times. */
#define READINGS 50

/**
 * struct found - which pages of an area are on which lists, a bit each
 * @free: on a list of free CMA pages
 * @misplaced: on one of another type
 * @cached: on a cpu's list
 */
struct found {
	unsigned long *free;
	unsigned long *misplaced;
	unsigned long *cached;
};

/*
 * The type of a pageblock, as get_pfnblock_migratetype(), which is not exported, reads it: from the
 * low three bits that a zone has for it. With SPARSEMEM they are elsewhere, and none is astray.
 */
static unsigned int block_type(const struct zone *zone, unsigned long pfn)
{
#ifdef CONFIG_SPARSEMEM
	return MIGRATE_CMA;
#else
	unsigned long first = pageblock_start_pfn(zone->zone_start_pfn);
	unsigned long bit = ((pfn - first) >> pageblock_order) * NR_PAGEBLOCK_BITS;

	return zone->pageblock_flags[bit / BITS_PER_LONG] >> bit % BITS_PER_LONG & 7;
#endif
}

/* Mark the pages of one entry of a list, if they are the area's. */
static void mark(unsigned long *map, const struct area *area, struct page *page, unsigned int order)
{
	unsigned long pfn = page_to_pfn(page);

	if (area_holds(area, pfn))
		bitmap_set(map, pfn - area->base_pfn, 1UL << order);
}

/* What is on the lists of the cpus, where freed pages wait; each list has pages of one order. */
static void find_cached(const struct found *found, const struct area *area, struct zone *zone)
{
#if PCP_HAS_LOCK
	int cpu, i;

	for_each_possible_cpu(cpu) {
		struct per_cpu_pages *pcp = per_cpu_ptr(zone->per_cpu_pageset, cpu);
		struct page *page;

		spin_lock(&pcp->lock);
		for (i = 0; i < NR_PCP_LISTS; i++)
			list_for_each_entry(page, &pcp->lists[i], lru)
				mark(found->cached, area, page, i / MIGRATE_PCPTYPES);
		spin_unlock(&pcp->lock);
	}
#endif
}

/* What is on the lists of free pages. */
static void find_free(const struct found *found, const struct area *area, struct zone *zone)
{
	unsigned int order, type;
	unsigned long flags;
	struct page *page;

	spin_lock_irqsave(&zone->lock, flags);
	for (order = 0; order < ARRAY_SIZE(zone->free_area); order++)
		for (type = 0; type < MIGRATE_TYPES; type++)
			list_for_each_entry(page, &zone->free_area[order].free_list[type], lru)
				mark(type == MIGRATE_CMA ? found->free : found->misplaced, area,
				     page, order);
	spin_unlock_irqrestore(&zone->lock, flags);
}

/* Which of the sums a page adds to that is neither marked nor on a list. */
static unsigned long *whose(struct area_pages *sum, struct page *page)
{
	if (!page_count(page))
		return &sum->lost;
	if (PageLRU(page) || READ_ONCE(page->mapping))
		return &sum->lent;
	return &sum->stuck;
}

static struct area_pages count_pages(const struct found *found, const struct area *area)
{
	struct area_pages sum = { };
	unsigned long i;

	for (i = 0; i < area->count; i++) {
		bool cached = test_bit(i, found->cached);
		bool free = test_bit(i, found->free);
		bool misplaced = test_bit(i, found->misplaced);
		bool listed = cached || free || misplaced;

		sum.free += free;
		sum.misplaced += misplaced;
		sum.cached += cached && !free;
		if (test_bit(i, area->bitmap))
			*(listed ? &sum.doubled : &sum.held) += 1;
		else if (!listed)
			*whose(&sum, pfn_to_page(area->base_pfn + i)) += 1;
	}
	for (i = 0; i < area->count; i += pageblock_nr_pages)
		sum.astray += block_type(area_zone(area), area->base_pfn + i) != MIGRATE_CMA;
	return sum;
}

/* The cpus' lists first: pages go from them to the zone's, and are then seen twice, not never. */
static struct area_pages read_once(const struct found *found, const struct area *area)
{
	bitmap_zero(found->free, area->count);
	bitmap_zero(found->misplaced, area->count);
	bitmap_zero(found->cached, area->count);
	find_cached(found, area, area_zone(area));
	find_free(found, area, area_zone(area));
	return count_pages(found, area);
}

/*
 * Look where each page of an area is, while nobody allocates from it and the case has @pinned of
 * its pages. A page that somebody else is moving between two lists, or is about to use, is on no
 * list for an instant, and is looked for again; one that stays missing is lost or stuck. -ENOMEM:
 * no memory for the reading itself.
 */
int area_pages_read(struct area_pages *pages, const struct area *area, unsigned long pinned)
{
	struct found found = {
		.free = bitmap_zalloc(area->count, GFP_KERNEL),
		.misplaced = bitmap_zalloc(area->count, GFP_KERNEL),
		.cached = bitmap_zalloc(area->count, GFP_KERNEL),
	};
	int ret = found.free && found.misplaced && found.cached ? 0 : -ENOMEM;
	int i;

	for (i = 0; !ret && i < READINGS; i++) {
		*pages = read_once(&found, area);
		if (!PCP_HAS_LOCK) {
			/* What is on a cpu's list cannot be told from what is lost. */
			pages->cached = pages->lost;
			pages->lost = 0;
		}
		if (!pages->lost && !pages->doubled && !pages->misplaced &&
		    pages->stuck == pinned)
			break;
		usleep_range(1000, 2000);
	}
	bitmap_free(found.cached);
	bitmap_free(found.misplaced);
	bitmap_free(found.free);
	return ret;
}

static struct zone_free zone_read_once(struct zone *zone)
{
	struct zone_free sum = { };
	unsigned int order, type;
	unsigned long flags;
	struct page *page;

	spin_lock_irqsave(&zone->lock, flags);
	for (order = 0; order < ARRAY_SIZE(zone->free_area); order++) {
		for (type = 0; type < MIGRATE_TYPES; type++) {
			list_for_each_entry(page, &zone->free_area[order].free_list[type], lru) {
				if (type != MIGRATE_ISOLATE)
					sum.free_listed += 1UL << order;
				if (type == MIGRATE_CMA)
					sum.cma_listed += 1UL << order;
			}
		}
	}
	sum.free_counted = zone_page_state_snapshot(zone, NR_FREE_PAGES);
	sum.cma_counted = zone_page_state_snapshot(zone, NR_FREE_CMA_PAGES);
	sum.isolated = zone->nr_isolate_pageblock;
	spin_unlock_irqrestore(&zone->lock, flags);
	return sum;
}

/*
 * Count what is free in a zone. Both counters change under the zone's lock, which is held, with the
 * lists; zone_page_state_snapshot() adds what each cpu has not yet passed on, so there is no slack.
 * Only passing on itself (refresh_cpu_vm_stats()) is not locked: for an instant its pages are in
 * neither part, so a reading that differs is taken again.
 */
struct zone_free zone_free_read(struct zone *zone)
{
	struct zone_free sum;
	int i;

	for (i = 0; i < READINGS; i++) {
		sum = zone_read_once(zone);
		if (sum.free_counted == sum.free_listed && sum.cma_counted == sum.cma_listed)
			break;
		usleep_range(1000, 2000);
	}
	return sum;
}

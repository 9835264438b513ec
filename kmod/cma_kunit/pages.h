/* SPDX-License-Identifier: GPL-2.0-only */
/* Where the pages of CMA areas are, as the page allocator has it. */
#ifndef CMA_KUNIT_PAGES_H
#define CMA_KUNIT_PAGES_H

#include <linux/mm.h>

#include "area.h"

/**
 * struct area_pages - every page of an area, counted by where it is
 * @held: marked in the bitmap, and on no list: a buffer's
 * @free: on a list of free CMA pages
 * @cached: on a cpu's list of free pages
 * @lent: not marked, but used by somebody from whom it can be taken: a movable page
 * @stuck: not marked, but with an owner who is nobody known: pinned by a case, or leaked
 * @misplaced: on a list of free pages that are not CMA's
 * @doubled: marked, and nevertheless on a list
 * @lost: neither marked, nor on a list, nor owned
 * @astray: pageblocks, not pages, whose type is not MIGRATE_CMA
 */
struct area_pages {
	unsigned long held;
	unsigned long free;
	unsigned long cached;
	unsigned long lent;
	unsigned long stuck;
	unsigned long misplaced;
	unsigned long doubled;
	unsigned long lost;
	unsigned long astray;
};

/**
 * struct zone_free - what a zone counts, against what its lists hold, at one moment
 * @free_counted: NR_FREE_PAGES
 * @free_listed: pages on the lists of free pages, those of isolated pageblocks left out
 * @cma_counted: NR_FREE_CMA_PAGES
 * @cma_listed: pages on the lists of free CMA pages
 * @isolated: pageblocks that are isolated
 */
struct zone_free {
	unsigned long free_counted;
	unsigned long free_listed;
	unsigned long cma_counted;
	unsigned long cma_listed;
	unsigned long isolated;
};

int area_pages_read(struct area_pages *pages, const struct area *area, unsigned long pinned);
struct zone_free zone_free_read(struct zone *zone);

static inline struct zone *area_zone(const struct area *area)
{
	return page_zone(pfn_to_page(area->base_pfn));
}

#endif /* CMA_KUNIT_PAGES_H */

// SPDX-License-Identifier: GPL-2.0-only
/* Filling memory with pages of the page allocator. */

#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/sched.h>
#include <linux/vmstat.h>

#include "memory.h"

/* Allocation flags that lead to the zone, if it has room, without reclaim. */
gfp_t zone_gfp(struct zone *zone)
{
	return (is_highmem(zone) ? __GFP_HIGHMEM : 0) | __GFP_NOWARN | __GFP_NORETRY;
}

/*
 * Take 1 << @order pages and keep them in @list. Their order is kept in page->private; page->lru is
 * the owner's, who is the case. NULL when there are none.
 */
struct page *take_page(struct list_head *list, gfp_t gfp, unsigned int order)
{
	struct page *page = alloc_pages(gfp, order);

	if (!page)
		return NULL;
	set_page_private(page, order);
	list_add(&page->lru, list);
	return page;
}

void free_pages_of(struct list_head *list)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, list, lru) {
		unsigned int order = page_private(page);

		list_del(&page->lru);
		set_page_private(page, 0);
		__free_pages(page, order);
	}
}

/* Whether CMA's free pages are less than two thirds of the zone's. */
static bool is_roomy(struct zone *zone)
{
	return zone_page_state(zone, NR_FREE_PAGES) >
	       zone_page_state(zone, NR_FREE_CMA_PAGES) / 2 * 3;
}

/*
 * Fill a zone with pages that cannot be moved until CMA's are well over half of those that are
 * left: movable allocations go to CMA from then on (__rmqueue(), since 5.8: 16867664936e,
 * "mm,page_alloc,cma: conditionally prefer cma pageblocks for movable allocations"). Returns the
 * pages taken.
 */
unsigned long fill_zone(struct list_head *list, struct zone *zone)
{
	unsigned long taken = 0;
	struct page *page;

	while (is_roomy(zone)) {
		page = take_page(list, zone_gfp(zone), pageblock_order);
		if (!page)
			break;
		taken += pageblock_nr_pages;
		if (page_zone(page) != zone)
			break;
	}
	return taken;
}

/* The owner cannot wait for itself: it is the OOM killer's to judge, as without a notifier. */
static int shortage_oom(struct notifier_block *oom, unsigned long action, void *freed)
{
	struct shortage *shortage = container_of(oom, struct shortage, oom);

	if (current != shortage->owner)
		(*(unsigned long *)freed)++;
	return NOTIFY_OK;
}

/*
 * Until shortage_end(), tasks other than the caller that find no memory try again, and none is
 * killed: out_of_memory() returns when a notifier says that pages come back, as the case's do.
 * Otherwise a case that leaves just the reserves ends the guest's sshd, or init.
 */
int shortage_begin(struct shortage *shortage)
{
	shortage->oom.notifier_call = shortage_oom;
	shortage->owner = current;
	return register_oom_notifier(&shortage->oom);
}

void shortage_end(struct shortage *shortage)
{
	unregister_oom_notifier(&shortage->oom);
	shortage->owner = NULL;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * The audit. It begins before each case and ends behind it, in the suite's exit function, so that a
 * page that a case loses, a pageblock whose type it changes or an event that it miscounts fails
 * that very case, and not one that comes later and wonders.
 */

#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

#include "audit.h"
#include "cma_compat.h"
#include "pages.h"

/* The counters, all cpus' together. */
struct cma_vm_events vm_events_read(struct kunit *test)
{
	struct cma_vm_events events = { };
#if CMA_HAS_VM_EVENTS
	unsigned long *all = kcalloc(NR_VM_EVENT_ITEMS, sizeof(*all), GFP_KERNEL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, all, "no memory for the test");
	all_vm_events(all);
	events.given = all[CMA_ALLOC_SUCCESS];
	events.refused = all[CMA_ALLOC_FAIL];
	kfree(all);
#endif
	return events;
}

/* Pages of the area that are pinned. */
static unsigned long pins_of_area(const struct list_head *pins, const struct area *area)
{
	const struct pin *pin;
	unsigned long pages = 0;

	list_for_each_entry(pin, pins, node)
		pages += area_holds(area, pin->pfn) ? pin->pages : 0;
	return pages;
}

/* Every page of the area is somewhere, once, and every pageblock is CMA's. */
static void audit_area(struct kunit *test, const struct area *area, unsigned long pinned)
{
	struct area_pages pages = { };

	KUNIT_EXPECT_EQ_MSG(test, area_pages_read(&pages, area, pinned), 0,
			    "no memory for the test");
	KUNIT_EXPECT_EQ_MSG(test, pages.lost, 0UL,
			    "audit: pages of %s that nobody has", area->name);
	KUNIT_EXPECT_EQ_MSG(test, pages.stuck, pinned,
			    "audit: pages of %s that are used by nobody known", area->name);
	KUNIT_EXPECT_EQ_MSG(test, pages.doubled, 0UL,
			    "audit: allocated pages of %s that are free as well", area->name);
	KUNIT_EXPECT_EQ_MSG(test, pages.misplaced, 0UL,
			    "audit: free pages of %s that are not on CMA's list", area->name);
	KUNIT_EXPECT_EQ_MSG(test, pages.astray, 0UL,
			    "audit: pageblocks of %s that are not MIGRATE_CMA", area->name);
}

/* The counters of the area's zone are what its lists hold; no pageblock is left isolated. */
static void audit_zone(struct kunit *test, const struct area *area, unsigned long most)
{
	struct zone *zone = area_zone(area);
	struct zone_free free = zone_free_read(zone);

	KUNIT_EXPECT_EQ_MSG(test, free.cma_counted, free.cma_listed,
			    "audit: NR_FREE_CMA_PAGES of zone %s", zone->name);
	KUNIT_EXPECT_EQ_MSG(test, free.free_counted, free.free_listed,
			    "audit: NR_FREE_PAGES of zone %s", zone->name);
	KUNIT_EXPECT_EQ_MSG(test, free.isolated, 0UL,
			    "audit: isolated pageblocks of zone %s", zone->name);
	KUNIT_EXPECT_LE_MSG(test, free.cma_counted, most,
			    "audit: NR_FREE_CMA_PAGES of zone %s, and all pages of all areas",
			    zone->name);
}

/* Look at all pages of all areas, also in the middle of a case when nobody allocates. */
void audit_pages(struct kunit *test, const struct areas *areas, const struct list_head *pins)
{
	unsigned long total = 0;
	unsigned int i;

	for (i = 0; i < areas->count; i++)
		total += areas->area[i].count;
	for (i = 0; i < areas->count; i++) {
		audit_area(test, &areas->area[i], pins_of_area(pins, &areas->area[i]));
		audit_zone(test, &areas->area[i], total);
	}
}

void audit_begin(struct kunit *test, struct audit *audit, const struct areas *areas)
{
	unsigned int i;

	for (i = 0; i < areas->count; i++)
		audit->bitmap[i] = area_snapshot(test, &areas->area[i]);
	audit->events = vm_events_read(test);
	audit->totals = trace_totals();
}

/* What the tracepoints said of the case, /proc/vmstat counted. */
static void audit_events(struct kunit *test, const struct audit *audit)
{
	struct cma_vm_events events = vm_events_read(test);
	struct cma_totals totals = trace_totals();

	if (!CMA_HAS_VM_EVENTS || !trace_heard())
		return;
	KUNIT_EXPECT_EQ_MSG(test, events.given - audit->events.given,
			    totals.given - audit->totals.given, "audit: cma_alloc_success");
	KUNIT_EXPECT_EQ_MSG(test, events.refused - audit->events.refused,
			    totals.refused - audit->totals.refused, "audit: cma_alloc_fail");
	KUNIT_EXPECT_EQ_MSG(test, totals.releases - audit->totals.releases,
			    totals.given - audit->totals.given,
			    "audit: releases, and what was given");
}

/* Every area is as it was, and the page allocator's books are in order. */
void audit_end(struct kunit *test, const struct audit *audit, const struct areas *areas)
{
	LIST_HEAD(none);
	unsigned int i;

	for (i = 0; i < areas->count; i++)
		KUNIT_EXPECT_TRUE_MSG(test, area_unchanged(&areas->area[i], audit->bitmap[i]),
				      "audit: the bitmap of %s changed, %lu pages are marked",
				      areas->area[i].name, area_used(&areas->area[i]));
	audit_pages(test, areas, &none);
	audit_events(test, audit);
}

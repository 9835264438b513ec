// SPDX-License-Identifier: GPL-2.0-only
/*
 * What CMA promises while others use its pages: it lends them to movable allocations and to no
 * other, and goes around those that cannot be moved away. The lent pages here are on no LRU list,
 * so nothing can move them; those that can be moved belong to user space, and its tests.
 */

#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/mm.h>

#include "buffers.h"
#include "cases.h"
#include "cma_compat.h"
#include "memory.h"
#include "pages.h"
#include "workers.h"

/* Movable pages that a case takes, at most, to get some of CMA's. */
#define LENT_PAGES 2048
/* Pages that the reserve of a zone, or of the one below it, has at least: half of 512 KiB. */
#define RESERVE 64u
/* Pages that fit on a cpu's list of free pages. */
#define FREED 32

#define ROUNDS 30

/* The area that a page is of, or NULL. */
static struct area *area_of_page(struct fixture *fix, const struct page *page)
{
	unsigned int i;

	for (i = 0; i < fix->areas.count; i++)
		if (area_holds(&fix->areas.area[i], page_to_pfn(page)))
			return &fix->areas.area[i];
	return NULL;
}

/* Pages in the list that are of an area. Each entry is counted by its first page. */
static unsigned long count_of_areas(struct fixture *fix, struct list_head *list)
{
	unsigned long found = 0;
	struct page *page;

	list_for_each_entry(page, list, lru)
		found += !!area_of_page(fix, page);
	return found;
}

/* Fill every zone that has an area; see fill_zone(). */
static unsigned long fill_zones(struct fixture *fix)
{
	unsigned long taken = 0;
	unsigned int i;

	for (i = 0; i < fix->areas.count; i++)
		taken += fill_zone(&fix->filler, area_zone(&fix->areas.area[i]));
	return taken;
}

/*
 * Pages that cannot be moved never come from an area, not even when little else is free. Memory is
 * filled with pageblocks, and then with pages of every lower order.
 */
void unmovable_pages_stay_out(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long taken = fill_zones(fix);
	unsigned int i, order, n;

	for (i = 0; i < fix->areas.count; i++) {
		gfp_t gfp = zone_gfp(area_zone(&fix->areas.area[i]));

		for (order = 0; order < pageblock_order; order++)
			for (n = 0; n < 8 && take_page(&fix->filler, gfp, order); n++)
				taken += 1UL << order;
	}
	KUNIT_EXPECT_GT(test, taken, 0UL);
	KUNIT_EXPECT_EQ(test, count_of_areas(fix, &fix->filler), 0UL);
	audit_pages(test, &fix->areas, &fix->pins);
	metric(test, "filled", taken, "pages");
}

/* Take pages that cannot be moved until there are none for such, of every order. */
static void exhaust(struct fixture *fix, gfp_t gfp)
{
	int order;

	for (order = pageblock_order; order >= 0; order--)
		while (take_page(&fix->filler, gfp, order))
			;
}

/*
 * Free pages of CMA hide no shortage from allocations that cannot use them: however many there are,
 * those end while there is still a reserve of others for who may use that (__GFP_HIGH). See
 * __zone_watermark_unusable_free(), and d95ea5d18e69 ("cma: fix watermark checking", 3.8).
 */
void reserve_is_not_of_cma(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned int i, n;

	for (i = 0; i < fix->areas.count; i++) {
		struct zone *zone = area_zone(&fix->areas.area[i]);
		gfp_t gfp = zone_gfp(zone) | __GFP_NOMEMALLOC;
		unsigned long cma;

		exhaust(fix, gfp);
		cma = zone_page_state(zone, NR_FREE_CMA_PAGES);
		for (n = 0; n < RESERVE && take_page(&fix->filler, gfp | __GFP_HIGH, 0); n++)
			;
		free_pages_of(&fix->filler);
		KUNIT_EXPECT_GT(test, cma, 10UL * RESERVE);
		KUNIT_EXPECT_EQ_MSG(test, n, RESERVE, "pages of zone %s", zone->name);
	}
}

/*
 * Pages of an area that were just freed wait on a list of their cpu, as all pages do: on the one
 * for movable allocations, not on those that other allocations take their pages from.
 */
void freed_pages_are_not_for_all(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long freed = 0;
	unsigned int i, n;

	for (i = 0; i < fix->areas.count; i++) {
		struct area *area = &fix->areas.area[i];
		unsigned long place = area_place(area, FREED, 0);
		struct pin *pin;

		if (place == area->count)
			continue;
		pin = pin_get(test, area->base_pfn + place, FREED);
		migrate_disable();
		pin_put(pin);
		for (n = 0; n < 2 * FREED; n++)
			take_page(&fix->filler, zone_gfp(area_zone(area)), 0);
		migrate_enable();
		freed += FREED;
	}
	KUNIT_EXPECT_GT(test, freed, 0UL);
	KUNIT_EXPECT_EQ(test, count_of_areas(fix, &fix->filler), 0UL);
}

/* Take movable pages until enough of them are an area's; returns how many are. */
static unsigned long borrow(struct fixture *fix, unsigned long enough)
{
	unsigned long taken, borrowed = 0;
	unsigned int i;

	for (i = 0; i < fix->areas.count; i++) {
		gfp_t gfp = zone_gfp(area_zone(&fix->areas.area[i])) | __GFP_MOVABLE;

		for (taken = 0; taken < LENT_PAGES && borrowed < enough * (i + 1); taken++) {
			struct page *page = take_page(&fix->lent, gfp, 0);

			if (!page)
				break;
			borrowed += !!area_of_page(fix, page);
		}
	}
	return borrowed;
}

/* Allocate from the area until it is full, without a page that is lent; the pages it got. */
static unsigned long fill_around(struct kunit *test, struct area *area, unsigned long *claims)
{
	struct fixture *fix = test->priv;
	unsigned long pages = 0, shared = 0, i;
	struct buffer *buf;

	fix->area = area;
	KUNIT_ASSERT_EQ(test, device_get(&fix->pdev, area), 0);
	pages = buffer_fill_area(test);
	list_for_each_entry(buf, &fix->buffers, node)
		for (i = 0; i < buffer_pages(buf); i++)
			shared += claim_page(area, claims, buffer_pfn(test, buf) + i, true);
	KUNIT_EXPECT_EQ_MSG(test, shared, 0UL, "pages of %s held twice", area->name);
	buffer_put_all(test);
	device_put(fix->pdev);
	fix->pdev = NULL;
	fix->area = NULL;
	return pages;
}

/*
 * When memory runs short, movable pages come from the areas, and the allocator goes around them:
 * all other pages of an area can still be had, and none of those. Given back, they are the area's
 * again.
 */
void lent_pages_are_gone_around(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long borrowed, i;

	fill_zones(fix);
	borrowed = borrow(fix, 8);
	KUNIT_ASSERT_GT_MSG(test, borrowed, 0UL, "CMA lent nothing");
	for (i = 0; i < fix->areas.count; i++) {
		struct area *area = &fix->areas.area[i];
		unsigned long *claims = area_snapshot(test, area);
		unsigned long lent = 0, room;
		struct page *page;

		list_for_each_entry(page, &fix->lent, lru)
			if (area_of_page(fix, page) == area)
				lent += !claim_page(area, claims, page_to_pfn(page), true);
		if (!lent || (!area->shared && !area->claimant))
			continue;
		room = area->count - area_used(area) - lent;
		KUNIT_EXPECT_EQ_MSG(test, fill_around(test, area, claims), room,
				    "%s with %lu pages lent", area->name, lent);
	}
	metric(test, "lent", borrowed, "pages");
}

/**
 * struct lender - a task that takes and gives back movable pages until it is stopped
 * @fix: the fixture
 * @workers: whose claims it shares
 * @begun: whether it has taken some
 * @taken: pages of an area that it got
 * @shared: those that a worker held
 */
struct lender {
	struct fixture *fix;
	struct workers *workers;
	struct completion begun;
	unsigned long taken;
	u32 shared;
};

/* Claim a page against the workers of its area, or give the claim up. */
static void lender_claim(struct lender *me, struct page *page, bool take)
{
	struct area *area = area_of_page(me->fix, page);
	unsigned int i;

	for (i = 0; area && i < me->workers->joined; i++) {
		if (me->workers->worker[i].area != area)
			continue;
		me->shared += claim_page(area, me->workers->worker[i].claims, page_to_pfn(page),
					 take);
		me->taken += take;
		return;
	}
}

/* Lend so much that what is taken next comes from the areas, however small they are. */
static void lender_begin(struct lender *me)
{
	struct page *page;

	borrow(me->fix, 1);
	list_for_each_entry(page, &me->fix->lent, lru)
		lender_claim(me, page, true);
	list_splice_init(&me->fix->lent, &me->fix->filler);
	me->taken = 0;
}

static int lender_run(void *data)
{
	struct lender *me = data;
	unsigned int turn = 0;

	while (!kthread_should_stop()) {
		struct area *area = &me->fix->areas.area[turn++ % me->fix->areas.count];
		gfp_t gfp = zone_gfp(area_zone(area)) | __GFP_MOVABLE;
		struct page *page;
		int i;

		for (i = 0; i < 64; i++) {
			page = take_page(&me->fix->lent, gfp, 0);
			if (page)
				lender_claim(me, page, true);
		}
		complete_all(&me->begun);
		cond_resched();
		list_for_each_entry(page, &me->fix->lent, lru)
			lender_claim(me, page, false);
		free_pages_of(&me->fix->lent);
	}
	return 0;
}

/*
 * While movable pages come and go in the areas, allocators in each of them never get a page that is
 * lent, nor one that another has. Whether they get one is up to the pages: a lent page may be in
 * each place that they try.
 */
void lending_races_with_allocating(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct workers *all = workers_make(test, fix->areas.count);
	struct lender lender = { .fix = fix, .workers = all };
	struct task_struct *task;
	struct worker sum;

	fill_zones(fix);
	workers_join_all(test, all, 1);
	if (!all->joined)
		kunit_skip(test, "no area that a device may use");
	lender_begin(&lender);
	init_completion(&lender.begun);
	task = kthread_run(lender_run, &lender, "cma_kunit_lender");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	wait_for_completion(&lender.begun); /* one cpu may have it begin behind all the workers */
	workers_start(test, all, ROUNDS, 48);
	workers_finish(all);
	kthread_stop(task);

	sum = workers_sum(all);
	KUNIT_EXPECT_EQ(test, sum.shared, 0u);
	KUNIT_EXPECT_EQ(test, lender.shared, 0u);
	KUNIT_EXPECT_EQ(test, sum.given + sum.refused, all->joined * ROUNDS);
	KUNIT_EXPECT_GT(test, sum.given, 0u);
	KUNIT_EXPECT_GT_MSG(test, lender.taken, 0UL, "CMA lent nothing");
	metric(test, "lent", lender.taken, "pages");
	metric(test, "refused", sum.refused, "buffers");
}

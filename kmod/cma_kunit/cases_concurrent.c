// SPDX-License-Identifier: GPL-2.0-only
/* What CMA promises to drivers that allocate at the same time. */

#include <linux/bitmap.h>
#include <linux/cpumask.h>
#include <linux/dma-direct.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/sizes.h>

#include "buffers.h"
#include "cases.h"
#include "cma_compat.h"
#include "workers.h"

#define ROUNDS 16
#define MAX_PAGES 48

/*
 * Allocators that run at the same time, two for each cpu, never hold the same page, are never
 * refused in an area that has room for them all, and leave nothing behind.
 */
void concurrent_allocators(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct workers *all = workers_make(test, 2 * num_online_cpus());
	struct worker sum;

	workers_join(test, all, fix->pdev, fix->area, all->count);
	workers_run(test, all, ROUNDS, MAX_PAGES);

	sum = workers_sum(all);
	KUNIT_EXPECT_EQ(test, sum.shared, 0u);
	KUNIT_EXPECT_EQ(test, sum.refused, 0u);
	KUNIT_EXPECT_EQ(test, sum.given, all->count * ROUNDS);
	KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
	metric(test, "allocators", all->count, "threads");
}

/*
 * Allocators in one pageblock do not disturb each other: no place is busy for one because another
 * isolates the same pageblock at that time (60a60e32cf91, 5.18: "Revert "mm/cma.c: remove redundant
 * cma_mutex lock""). They keep their buffers, since a page freed in the pageblock may make a place
 * busy for an instant: find_large_buddy() looks for the free pages that the range is part of before
 * test_pages_isolated() takes the lock, and a merge between the two moves their head, 6.12.
 */
void allocators_do_not_disturb_each_other(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct workers *all = workers_make(test, 2 * num_online_cpus());
	/* So few pages that all find a place, half of the area lost to alignment included. */
	unsigned long most = (fix->area->count - area_used(fix->area)) / (2 * ROUNDS * all->count);
	struct cma_totals before = trace_totals();
	struct worker sum;

	if (!most)
		kunit_skip(test, "the area is too small for the buffers of all");
	workers_join(test, all, fix->pdev, fix->area, all->count);
	all->keep = true;
	workers_run(test, all, ROUNDS, min_t(unsigned long, most, MAX_PAGES));

	sum = workers_sum(all);
	KUNIT_EXPECT_EQ(test, sum.shared, 0u);
	KUNIT_EXPECT_EQ(test, sum.given, all->count * ROUNDS);
	KUNIT_EXPECT_EQ(test, trace_totals().retries, before.retries);
}

/*
 * A place that the bitmap shows as free is free: cma_release() gives the pages back first and
 * clears their bits last. Two allocators for whom a full area has one place, and who wait for each
 * other's turn, are refused for lack of room, but never find the place busy.
 */
void freed_place_is_free_at_once(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct workers *all = workers_make(test, 2);
	struct cma_totals before;
	struct worker sum;
	struct buffer *hole;

	hole = buffer_get(test, SZ_1M);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, hole);
	buffer_fill_area(test);
	buffer_put(test, hole);

	before = trace_totals();
	workers_join(test, all, fix->pdev, fix->area, 2);
	all->contend = true;
	workers_run(test, all, ROUNDS / 2, SZ_1M >> PAGE_SHIFT);

	sum = workers_sum(all);
	KUNIT_EXPECT_EQ(test, sum.shared, 0u);
	KUNIT_EXPECT_GT(test, sum.given, 0u);
	KUNIT_EXPECT_EQ(test, trace_totals().retries, before.retries);
	metric(test, "given", sum.given, "buffers");
	metric(test, "refused", sum.refused, "buffers");
}

/**
 * struct witness - what the page allocator is given back, seen when it is
 * @probe: on what frees the pages, by whose registers the kernel tells the range
 * @area: the area that it is about
 * @calls: how often it was called
 * @pfn: of the last call
 * @count: of the last call
 * @marked: pages of the last call that the bitmap had as allocated
 */
struct witness {
	struct kprobe probe;
	const struct area *area;
	unsigned int calls;
	unsigned long pfn;
	unsigned long count;
	unsigned long marked;
};

static int look_at_freed(struct kprobe *probe, struct pt_regs *regs)
{
	struct witness *me = container_of(probe, struct witness, probe);
	unsigned long i;

	me->calls++;
	me->pfn = regs->ARM_r0;
	me->count = regs->ARM_r1;
	me->marked = 0;
	for (i = 0; i < me->count; i++)
		me->marked += area_holds(me->area, me->pfn + i) &&
			      test_bit(me->pfn + i - me->area->base_pfn, me->area->bitmap);
	return 0;
}

/* Newer kernels (7.3) free pages whose reference counts are 0 already, with a function for that. */
static bool watch(struct witness *me, const char *function)
{
	me->probe.symbol_name = function;
	return !register_kprobe(&me->probe);
}

/*
 * A buffer's bits are cleared when its pages are back, not before: between the two, another
 * allocator would take the place and find it busy. Seen at the instant in which the pages go back,
 * which the race of freed_place_is_free_at_once() meets only now and then.
 */
void pages_go_back_before_their_bits(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct witness *seen = kunit_kzalloc(test, sizeof(*seen), GFP_KERNEL);
	struct buffer *buf = buffer_get(test, SZ_64K);
	unsigned long pfn;

	if (KPROBES_FAULT)
		kunit_skip(test, "a kprobe on a wide push faults: t32_emulate_push(), 7.3");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, seen);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf);
	pfn = buffer_pfn(test, buf);
	seen->area = fix->area;
	seen->probe.pre_handler = look_at_freed;
	if (!watch(seen, "free_contig_frozen_range") && !watch(seen, "free_contig_range"))
		kunit_skip(test, "free_contig_range() takes no kprobe: CONFIG_KPROBES");
	buffer_put(test, buf);
	unregister_kprobe(&seen->probe);

	KUNIT_EXPECT_EQ(test, seen->calls, 1u);
	KUNIT_EXPECT_EQ(test, seen->pfn, pfn);
	KUNIT_EXPECT_EQ(test, seen->count, (unsigned long)SZ_64K >> PAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, seen->marked, (unsigned long)SZ_64K >> PAGE_SHIFT);
}

/*
 * Whoever isolates a pageblock has it for itself: others who want another range of it at the same
 * time get -EBUSY (set_migratetype_isolate()), and neither undoes what the other did. Here CMA
 * competes with alloc_contig_range(); its buffers go to the next place then, and nobody is refused.
 */
void pageblock_is_isolated_once(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long place = area_place(fix->area, MAX_PAGES, 0);
	unsigned long pfn = pageblock_end_pfn(fix->area->base_pfn + place) - 1;
	struct workers *all = workers_make(test, 1);
	unsigned int taken = 0, busy = 0, odd = 0, i;
	struct worker sum;

	workers_join(test, all, fix->pdev, fix->area, 1);
	workers_start(test, all, 2 * ROUNDS, MAX_PAGES);
	for (i = 0; i < 4 * ROUNDS; i++) {
		int ret = contig_get(pfn, pfn + 1, true, GFP_QUIET);

		if (!ret)
			free_contig_range(pfn, 1);
		taken += !ret;
		busy += ret == -EBUSY;
		odd += ret && ret != -EBUSY;
	}
	workers_finish(all);

	sum = workers_sum(all);
	KUNIT_EXPECT_EQ(test, odd, 0u);
	KUNIT_EXPECT_EQ(test, sum.shared, 0u);
	KUNIT_EXPECT_EQ(test, sum.refused, 0u);
	KUNIT_EXPECT_EQ(test, sum.given, 2 * ROUNDS);
	metric(test, "taken", taken, "pages");
	metric(test, "busy", busy, "pages");
}

/*
 * Areas do not get into each other's way: with two allocators in each, all at the same time, no
 * page is held twice or in the wrong area, nobody is refused, and no place is found busy.
 */
void areas_work_side_by_side(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct cma_totals before = trace_totals();
	struct workers *all = workers_make(test, fix->areas.count);
	struct worker sum;

	workers_join_all(test, all, 1);
	if (!all->joined)
		kunit_skip(test, "no area that a device may use");
	workers_run(test, all, 2 * ROUNDS, MAX_PAGES);

	sum = workers_sum(all);
	KUNIT_EXPECT_EQ(test, sum.shared, 0u);
	KUNIT_EXPECT_EQ(test, sum.refused, 0u);
	KUNIT_EXPECT_EQ(test, sum.given, 2 * all->joined * ROUNDS);
	KUNIT_EXPECT_EQ(test, trace_totals().retries, before.retries);
	metric(test, "allocators", all->joined, "threads");
}

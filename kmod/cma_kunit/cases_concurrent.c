// SPDX-License-Identifier: GPL-2.0-only
/* What CMA promises to drivers that allocate at the same time. */

#include <linux/bitmap.h>
#include <linux/cpumask.h>
#include <linux/dma-direct.h>
#include <linux/mm.h>
#include <linux/pfn.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "buffers.h"
#include "cases.h"

#define ROUNDS 80
#define MAX_PAGES 48

/**
 * struct allocator - one of the workers
 * @work: its place in the queue
 * @fix: the device and the area, shared by all
 * @claims: one bit for each page of the area, set while any worker holds it
 * @seed: for its choice of sizes
 * @given: buffers it got
 * @refused: allocations that failed
 * @shared: pages it got while another held them, or outside of the area
 */
struct allocator {
	struct work_struct work;
	struct fixture *fix;
	unsigned long *claims;
	u32 seed;
	u32 given;
	u32 refused;
	u32 shared;
};

/* Set or clear the claim on each page; the number of pages that were not as they should be. */
static u32 claim_pages(struct allocator *me, unsigned long pfn, unsigned long pages, bool take)
{
	u32 wrong = 0;

	for (; pages; pages--, pfn++) {
		unsigned long bit = pfn - me->fix->area.base_pfn;

		if (!area_holds(&me->fix->area, pfn))
			wrong++;
		else if (take)
			wrong += test_and_set_bit(bit, me->claims);
		else
			wrong += !test_and_clear_bit(bit, me->claims);
	}
	return wrong;
}

static void allocate_once(struct allocator *me, unsigned long pages)
{
	struct device *dev = &me->fix->pdev->dev;
	dma_addr_t dma;
	void *cpu = dma_alloc_coherent(dev, pages << PAGE_SHIFT, &dma, GFP_QUIET);
	unsigned long pfn;

	if (!cpu) {
		me->refused++;
		return;
	}
	pfn = PHYS_PFN(dma_to_phys(dev, dma));
	me->given++;
	me->shared += claim_pages(me, pfn, pages, true);
	cond_resched();
	me->shared += claim_pages(me, pfn, pages, false);
	dma_free_coherent(dev, pages << PAGE_SHIFT, cpu, dma);
}

static void allocator_run(struct work_struct *work)
{
	struct allocator *me = container_of(work, struct allocator, work);
	struct rnd_state rnd;
	int round;

	prandom_seed_state(&rnd, me->seed);
	for (round = 0; round < ROUNDS; round++)
		allocate_once(me, prandom_u32_state(&rnd) % MAX_PAGES + 1);
}

/* Run the workers side by side until all are done; the caller has set them up. */
static void run_all(struct kunit *test, struct allocator *all, unsigned int count)
{
	struct workqueue_struct *queue = alloc_workqueue("cma_kunit", WQ_UNBOUND, count);
	unsigned int i;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, queue);
	for (i = 0; i < count; i++)
		queue_work(queue, &all[i].work);
	destroy_workqueue(queue);
}

/*
 * Allocators that run at the same time, two for each cpu, never hold the same page, are never
 * refused in an area that has room for them all, and leave nothing behind.
 */
void concurrent_allocators(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned int count = 2 * num_online_cpus();
	u32 given = 0, refused = 0, shared = 0;
	unsigned long *claims = area_snapshot(test, &fix->area);
	struct allocator *all;
	unsigned int i;

	all = kunit_kzalloc(test, count * sizeof(*all), GFP_KERNEL);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, all);
	for (i = 0; i < count; i++) {
		all[i].fix = fix;
		all[i].claims = claims;
		all[i].seed = i + 1;
		INIT_WORK(&all[i].work, allocator_run);
	}
	run_all(test, all, count);

	for (i = 0; i < count; i++) {
		given += all[i].given;
		refused += all[i].refused;
		shared += all[i].shared;
	}
	KUNIT_EXPECT_EQ(test, shared, 0u);
	KUNIT_EXPECT_EQ(test, refused, 0u);
	KUNIT_EXPECT_EQ(test, given, count * ROUNDS);
	KUNIT_EXPECT_TRUE(test, area_unchanged(&fix->area, fix->before));
	metric(test, "allocators", count, "threads");
}

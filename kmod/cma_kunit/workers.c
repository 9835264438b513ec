// SPDX-License-Identifier: GPL-2.0-only
/* Allocators that run at the same time. */

#include <linux/bitmap.h>
#include <linux/dma-direct.h>
#include <linux/mm.h>
#include <linux/pfn.h>
#include <linux/prandom.h>
#include <linux/slab.h>

#include "buffers.h"
#include "workers.h"

/* A worker that is refused tries again; so many tries for one buffer end it. */
#define TRIES_FOR_ONE 2000

/* Set or clear the claim on a page; 1 if it is not the area's, or was not as it should be. */
u32 claim_page(const struct area *area, unsigned long *claims, unsigned long pfn, bool take)
{
	unsigned long bit = pfn - area->base_pfn;

	if (!area_holds(area, pfn))
		return 1;
	if (take)
		return test_and_set_bit(bit, claims);
	return !test_and_clear_bit(bit, claims);
}

static void claim_buffer(struct worker *me, const struct buffer *buf, bool take)
{
	unsigned long pfn = PHYS_PFN(dma_to_phys(&me->pdev->dev, buf->dma));
	unsigned long i;

	for (i = 0; i < buffer_pages(buf); i++)
		me->shared += claim_page(me->area, me->claims, pfn + i, take);
}

static void give_back(struct worker *me, struct buffer *buf)
{
	claim_buffer(me, buf, false);
	dma_free_coherent(&me->pdev->dev, buf->size, buf->cpu, buf->dma);
	kfree(buf);
}

static void allocate_once(struct worker *me, unsigned long pages)
{
	struct buffer *buf = kzalloc(sizeof(*buf), GFP_KERNEL);

	if (buf) {
		buf->size = pages << PAGE_SHIFT;
		buf->cpu = dma_alloc_coherent(&me->pdev->dev, buf->size, &buf->dma, GFP_QUIET);
	}
	if (!buf || !buf->cpu) {
		kfree(buf);
		me->refused++;
		return;
	}
	me->given++;
	claim_buffer(me, buf, true);
	cond_resched();
	if (me->all->keep)
		list_add(&buf->node, &me->kept);
	else
		give_back(me, buf);
}

static void worker_run(struct work_struct *work)
{
	struct worker *me = container_of(work, struct worker, work);
	struct workers *all = me->all;
	struct rnd_state rnd;
	u32 round;

	prandom_seed_state(&rnd, me->seed);
	for (round = 0; !all->contend && round < all->rounds; round++)
		allocate_once(me, prandom_u32_state(&rnd) % all->most + 1);
	while (all->contend && me->given < all->rounds &&
	       me->refused < all->rounds * TRIES_FOR_ONE) {
		allocate_once(me, all->most);
		cond_resched();
	}
}

/* Room for so many workers, which live as long as the case. */
struct workers *workers_make(struct kunit *test, unsigned int count)
{
	struct workers *all = kunit_kzalloc(test, struct_size(all, worker, count), GFP_KERNEL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, all);
	all->count = count;
	return all;
}

/* Let so many workers allocate for a device; they claim the pages of its area together. */
void workers_join(struct kunit *test, struct workers *all, struct platform_device *pdev,
		  const struct area *area, unsigned int count)
{
	unsigned long *claims = area_snapshot(test, area);

	KUNIT_ASSERT_LE(test, all->joined + count, all->count);
	for (; count; count--) {
		struct worker *new = &all->worker[all->joined++];

		new->all = all;
		new->pdev = pdev;
		new->area = area;
		new->claims = claims;
		new->seed = all->joined;
		INIT_LIST_HEAD(&new->kept);
		INIT_WORK(&new->work, worker_run);
	}
}

/* So many workers for each area that a device may use; the devices are the fixture's. */
void workers_join_all(struct kunit *test, struct workers *all, unsigned int each)
{
	struct fixture *fix = test->priv;
	unsigned int i;

	for (i = 0; i < fix->areas.count; i++) {
		struct area *area = &fix->areas.area[i];

		if (!area->shared && !area->claimant)
			continue;
		KUNIT_ASSERT_EQ(test, device_get(&fix->devices[i], area), 0);
		workers_join(test, all, fix->devices[i], area, each);
	}
}

/* Set the workers going, all at once. */
void workers_start(struct kunit *test, struct workers *all, unsigned int rounds,
		   unsigned long most)
{
	unsigned int i;

	all->rounds = rounds;
	all->most = most;
	all->queue = alloc_workqueue("cma_kunit", WQ_UNBOUND, all->joined);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, all->queue);
	for (i = 0; i < all->joined; i++)
		queue_work(all->queue, &all->worker[i].work);
}

/* Wait until all are done, and free what they kept. */
void workers_finish(struct workers *all)
{
	struct buffer *buf, *next;
	unsigned int i;

	destroy_workqueue(all->queue);
	for (i = 0; i < all->joined; i++)
		list_for_each_entry_safe(buf, next, &all->worker[i].kept, node)
			give_back(&all->worker[i], buf);
}

void workers_run(struct kunit *test, struct workers *all, unsigned int rounds, unsigned long most)
{
	workers_start(test, all, rounds, most);
	workers_finish(all);
}

/* What all of them saw together. */
struct worker workers_sum(const struct workers *all)
{
	struct worker sum = { };
	unsigned int i;

	for (i = 0; i < all->joined; i++) {
		sum.given += all->worker[i].given;
		sum.refused += all->worker[i].refused;
		sum.shared += all->worker[i].shared;
	}
	return sum;
}

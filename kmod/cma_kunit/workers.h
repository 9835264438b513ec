/* SPDX-License-Identifier: GPL-2.0-only */
/* Allocators that run at the same time, and a claim on each page that one of them holds. */
#ifndef CMA_KUNIT_WORKERS_H
#define CMA_KUNIT_WORKERS_H

#include <linux/list.h>
#include <linux/workqueue.h>

#include "area.h"

struct kunit;
struct platform_device;

/**
 * struct worker - one allocator
 * @work: its place in the queue
 * @all: the workers that it is one of
 * @pdev: the device it allocates for
 * @area: where its buffers have to be
 * @kept: buffers that it keeps
 * @claims: a bit for each page of the area, set while any worker holds it
 * @seed: for its choice of sizes
 * @given: buffers it got
 * @refused: allocations that failed
 * @shared: pages it got while another held them, or outside of the area
 */
struct worker {
	struct work_struct work;
	struct workers *all;
	struct platform_device *pdev;
	const struct area *area;
	struct list_head kept;
	unsigned long *claims;
	u32 seed;
	u32 given;
	u32 refused;
	u32 shared;
};

/**
 * struct workers - allocators of one case
 * @count: room for workers
 * @joined: workers that there are
 * @rounds: how often each allocates
 * @most: pages of a buffer
 * @contend: all buffers have @most pages, not up to as many, and a worker that is refused tries
 *	again
 * @keep: whether a worker keeps its buffers until workers_finish(), which frees them
 * @queue: where they run
 * @worker: the workers
 */
struct workers {
	unsigned int count;
	unsigned int joined;
	unsigned int rounds;
	unsigned long most;
	bool contend;
	bool keep;
	struct workqueue_struct *queue;
	struct worker worker[];
};

struct workers *workers_make(struct kunit *test, unsigned int count);
void workers_join(struct kunit *test, struct workers *all, struct platform_device *pdev,
		  const struct area *area, unsigned int count);
void workers_join_all(struct kunit *test, struct workers *all, unsigned int each);
void workers_start(struct kunit *test, struct workers *all, unsigned int rounds,
		   unsigned long most);
void workers_finish(struct workers *all);
void workers_run(struct kunit *test, struct workers *all, unsigned int rounds,
		 unsigned long most);
struct worker workers_sum(const struct workers *all);
u32 claim_page(const struct area *area, unsigned long *claims, unsigned long pfn, bool take);

#endif /* CMA_KUNIT_WORKERS_H */

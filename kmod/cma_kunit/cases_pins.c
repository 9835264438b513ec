// SPDX-License-Identifier: GPL-2.0-only
/*
 * What CMA promises when pages of the area cannot be moved: to try the next aligned place after
 * each busy one (__cma_alloc(): start = bitmap_no + mask + 1), each place once, and to leave no
 * trace of the places that it gave up.
 *
 * The pins are ranges taken with alloc_contig_range(), which is exported, takes pages past the
 * area's bitmap, and leaves them as pages that have an owner and no place on an LRU list.
 */

#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>

#include "buffers.h"
#include "cases.h"
#include "cma_compat.h"

#define TRIES_MAX 64

/**
 * struct plan - what the allocator has to do for one buffer
 * @pages: of the buffer
 * @tries: how many places it tries
 * @tried: their first pages in the area; the last is the buffer's, if it gets one
 * @given: whether it gets one
 */
struct plan {
	unsigned long pages;
	unsigned int tries;
	unsigned long tried[TRIES_MAX];
	bool given;
};

static bool is_pinned(const struct fixture *fix, unsigned long pfn, unsigned long pages)
{
	const struct pin *pin;

	list_for_each_entry(pin, &fix->pins, node)
		if (pin->pfn < pfn + pages && pfn < pin->pfn + pin->pages)
			return true;
	return false;
}

/* Work out from the bitmap and the pins where the allocator has to try, and in which order. */
static void plan_make(struct kunit *test, struct plan *plan, unsigned long pages)
{
	struct fixture *fix = test->priv;
	struct area *area = fix->area;
	unsigned long place = area_place(area, pages, 0);

	memset(plan, 0, sizeof(*plan));
	plan->pages = pages;
	while (place < area->count && !plan->given) {
		KUNIT_ASSERT_LT(test, plan->tries, (unsigned int)TRIES_MAX);
		plan->tried[plan->tries++] = place;
		plan->given = !is_pinned(fix, area->base_pfn + place, pages);
		place = area_place(area, pages, place + (1UL << area_align_order(pages)));
	}
}

/* The event is of this kind, of the area, and of the pages and alignment that were asked for. */
static void expect_event(struct kunit *test, const struct cma_event *event,
			 enum cma_event_kind kind, unsigned long pages)
{
	struct fixture *fix = test->priv;

	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, event, "an event less than the places to try");
	KUNIT_ASSERT_EQ(test, (int)event->kind, (int)kind);
	KUNIT_EXPECT_STREQ(test, event->name, &fix->area->name[0]);
	KUNIT_EXPECT_EQ(test, event->count, pages);
	KUNIT_EXPECT_EQ(test, event->align, area_align_order(pages));
}

/* The events since @mark are those of the plan: a start, a retry for each busy place, the end. */
static void expect_events(struct kunit *test, const struct plan *plan, unsigned int mark)
{
	struct fixture *fix = test->priv;
	unsigned int busy = plan->tries - plan->given, i;
	const struct cma_event *event;

	if (!trace_heard())
		return;
	KUNIT_EXPECT_EQ(test, trace_mark() - mark, busy + 2);
	expect_event(test, trace_event(mark), CMA_START, plan->pages);
	for (i = 0; i < busy; i++) {
		event = trace_event(mark + 1 + i);
		expect_event(test, event, CMA_RETRY, plan->pages);
		KUNIT_EXPECT_EQ_MSG(test, event->pfn, fix->area->base_pfn + plan->tried[i],
				    "try %u", i);
	}
	event = trace_event(mark + 1 + busy);
	expect_event(test, event, CMA_FINISH, plan->pages);
	KUNIT_EXPECT_EQ(test, event->given, plan->given);
	KUNIT_EXPECT_EQ(test, event->error, plan->given ? 0 : busy ? -EBUSY : -ENOMEM);
}

/* Allocate, and expect what the plan says. Returns the buffer, or NULL as planned. */
static struct buffer *get_as_planned(struct kunit *test, unsigned long pages)
{
	struct fixture *fix = test->priv;
	unsigned long *bitmap = area_snapshot(test, fix->area);
	unsigned int mark = trace_mark();
	struct buffer *buf;
	struct plan *plan = kunit_kzalloc(test, sizeof(*plan), GFP_KERNEL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, plan);
	plan_make(test, plan, pages);
	buf = buffer_get(test, pages << PAGE_SHIFT);
	expect_events(test, plan, mark);
	KUNIT_ASSERT_EQ_MSG(test, !!buf, plan->given, "%lu pages", pages);
	if (buf) {
		KUNIT_EXPECT_EQ_MSG(test, buffer_pfn(test, buf),
				    fix->area->base_pfn + plan->tried[plan->tries - 1],
				    "%lu pages after %u busy places", pages, plan->tries - 1);
		bitmap_set(bitmap, buffer_pfn(test, buf) - fix->area->base_pfn, pages);
	}
	KUNIT_EXPECT_TRUE_MSG(test, area_unchanged(fix->area, bitmap),
			      "the bitmap after %u tries for %lu pages", plan->tries, pages);
	return buf;
}

/* Pin a page of the first place for so many pages, and go around it; then the same without. */
static void go_around(struct kunit *test, unsigned long pages, unsigned long pinned)
{
	struct fixture *fix = test->priv;
	unsigned long place = area_place(fix->area, pages, 0);
	struct buffer *buf;
	struct pin *pin;

	if (place == fix->area->count)
		return;
	pin = pin_get(test, fix->area->base_pfn + place + pinned, 1);
	buf = get_as_planned(test, pages);
	if (buf)
		buffer_put(test, buf);
	/* The place that was given up is as good as before, once the pin is gone. */
	pin_put(pin);
	buf = get_as_planned(test, pages);
	if (buf)
		buffer_put(test, buf);
}

/*
 * One busy page in the first place of a buffer, be it its first, one in the middle or its last,
 * makes the allocator take the next aligned place and no other; without the page it takes the first
 * place again.
 */
void pinned_page_is_gone_around(struct kunit *test)
{
	static const unsigned long sizes[] = { 1, 24, 256, 1024, 1030 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		go_around(test, sizes[i], 0);
		if (sizes[i] > 256)
			go_around(test, sizes[i], sizes[i] / 2);
		if (sizes[i] > 1)
			go_around(test, sizes[i], sizes[i] - 1);
	}
	/* Longer than aligned: the next place to try overlaps the one that was busy. */
	go_around(test, (1UL << CONFIG_CMA_ALIGNMENT) + 1, 0);
}

/*
 * With a busy page in every place that a buffer could have, each place is tried once, in order, and
 * the buffer is refused with -EBUSY. No page and no pageblock stays behind of it: with the pins
 * gone, every page of the area can be had.
 */
void pinned_everywhere_is_refused(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct area *area = fix->area;
	unsigned long pages = max(area->count / 32, pageblock_nr_pages / 2);
	unsigned long place, pins = 0;

	for (place = area_place(area, pages, 0); place < area->count;
	     place = area_place(area, pages, place + (1UL << area_align_order(pages)))) {
		pin_get(test, area->base_pfn + place + pins % pages, 1);
		pins++;
	}
	if (pins < 2)
		kunit_skip(test, "the area has one place for a buffer of half a pageblock");
	KUNIT_EXPECT_PTR_EQ(test, get_as_planned(test, pages), (struct buffer *)NULL);
	audit_pages(test, &fix->areas, &fix->pins);

	pin_put_all(test);
	KUNIT_EXPECT_EQ(test, area_used(area) + buffer_fill_area(test), area->count);
	metric(test, "places_tried", pins, "places");
}

/*
 * A busy last page of the area refuses the buffer that needs it, after one try; released, the
 * buffer is given.
 */
void pinned_last_page_is_refused(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long last = fix->area->base_pfn + fix->area->count - 1;
	unsigned long pages = 0, pfn;
	struct buffer *buf, *next;

	KUNIT_ASSERT_GT(test, buffer_fill_area(test), 0UL);
	list_for_each_entry_safe(buf, next, &fix->buffers, node) {
		pfn = buffer_pfn(test, buf);
		if (last - pfn >= buffer_pages(buf))
			continue;
		pages = buffer_pages(buf);
		buffer_put(test, buf);
		break;
	}
	KUNIT_ASSERT_GT_MSG(test, pages, 0UL, "no buffer has the last page");

	pin_get(test, last, 1);
	KUNIT_EXPECT_PTR_EQ(test, get_as_planned(test, pages), (struct buffer *)NULL);
	pin_put_all(test);
	buf = get_as_planned(test, pages);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf);
	KUNIT_EXPECT_EQ(test, buffer_pfn(test, buf), pfn);
}

/*
 * Busy pages right before and behind a buffer neither hinder it nor are they touched: what the
 * allocator takes from the page allocator beyond the buffer (outer_start, outer_end in
 * alloc_contig_range()), it gives back.
 */
void pinned_neighbours_are_left_alone(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long place = area_place(fix->area, 64, 0);
	unsigned long first = fix->area->base_pfn + place;
	struct buffer *buf;

	KUNIT_ASSERT_LT(test, place + 64, fix->area->count);
	pin_get(test, first + 15, 1);
	pin_get(test, first + 32, 1);
	frames_fill(first + 15, 1, 0x69);
	frames_fill(first + 32, 1, 0x96);

	buf = get_as_planned(test, 16);
	if (buf)
		memset(buf->cpu, 0xff, buf->size);
	KUNIT_EXPECT_EQ(test, frames_unlike(first + 15, 1, 0x69), 0UL);
	KUNIT_EXPECT_EQ(test, frames_unlike(first + 32, 1, 0x96), 0UL);
	audit_pages(test, &fix->areas, &fix->pins);
}

/**
 * struct victim - a task that is killed before it allocates
 * @test: the case
 * @cpu: what it got, with its bus address in @dma
 * @dma: see @cpu
 * @done: it will not touch this any more
 */
struct victim {
	struct kunit *test;
	void *cpu;
	dma_addr_t dma;
	struct completion done;
};

static int victim_run(void *data)
{
	struct victim *me = data;
	struct fixture *fix = me->test->priv;

	allow_signal(SIGKILL);
	send_sig(SIGKILL, current, 1);
	me->cpu = dma_alloc_coherent(&fix->pdev->dev, SZ_64K, &me->dma, GFP_QUIET);
	complete(&me->done);
	return 0;
}

/*
 * An allocation by a killed task ends with the first place, as no other would do better:
 * __alloc_contig_migrate_range() returns -EINTR then, and only -EBUSY is tried again. It takes
 * nothing.
 */
void killed_task_gives_up_at_once(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct cma_totals before = trace_totals(), now;
	struct victim victim = { .test = test };
	struct task_struct *task;

	init_completion(&victim.done);
	task = kthread_create(victim_run, &victim, "cma_kunit");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	get_task_struct(task);
	wake_up_process(task);
	wait_for_completion(&victim.done);
	/* Not before the module's code is left for good. */
	kthread_stop(task);
	put_task_struct(task);
	if (victim.cpu)
		dma_free_coherent(&fix->pdev->dev, SZ_64K, victim.cpu, victim.dma);

	KUNIT_EXPECT_PTR_EQ(test, victim.cpu, NULL);
	KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
	if (!trace_heard())
		return;
	now = trace_totals();
	KUNIT_EXPECT_EQ(test, now.starts - before.starts, 1UL);
	KUNIT_EXPECT_EQ(test, now.retries - before.retries, 0UL);
	KUNIT_EXPECT_EQ(test, now.refused - before.refused, 1UL);
	KUNIT_EXPECT_EQ(test, trace_event(trace_mark() - 1)->error, -EINTR);
}

/*
 * A range need not begin or end with a pageblock: one from the middle of a pageblock into the next
 * but one is taken, and with it nothing else. Afterwards the pages beside it in its pageblocks can
 * be had as before.
 */
void ranges_may_cross_pageblocks(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct area *area = fix->area;
	unsigned long first = pageblock_align(area->base_pfn + 1) + pageblock_nr_pages - 3;
	unsigned long pages = pageblock_nr_pages + 8;
	struct pin *before_it, *behind_it;
	unsigned long i, free = 0;

	if (!area_holds(area, first + pages))
		kunit_skip(test, "the area has fewer than four pageblocks");
	pin_get(test, first, pages);
	for (i = 0; i < pages; i++)
		free += page_count(pfn_to_page(first + i)) != 1;
	KUNIT_EXPECT_EQ(test, free, 0UL);
	audit_pages(test, &fix->areas, &fix->pins);

	before_it = pin_get(test, first - 1, 1);
	behind_it = pin_get(test, first + pages, 1);
	pin_put(before_it);
	pin_put(behind_it);
}

/*
 * A pageblock of CMA is nobody else's: alloc_contig_range() on behalf of others (memory hotplug,
 * alloc_contig_pages()) is refused its free pages with -EBUSY, and leaves the pageblock as it was.
 */
void only_cma_takes_its_pageblocks(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long place = area_place(fix->area, 1, 0);
	unsigned long pfn = fix->area->base_pfn + place;
	int ret;

	KUNIT_ASSERT_LT(test, place, fix->area->count);
	ret = contig_get(pfn, pfn + 1, false, GFP_QUIET);
	if (!ret)
		free_contig_range(pfn, 1);
	KUNIT_EXPECT_EQ(test, ret, -EBUSY);
	audit_pages(test, &fix->areas, &fix->pins);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, get_as_planned(test, 1));
}

// SPDX-License-Identifier: GPL-2.0-only
/* What CMA promises about many buffers, and about the area as a whole. */

#include <linux/bitmap.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/workqueue.h>

#include "buffers.h"
#include "cases.h"
#include "cma_compat.h"
#include "pages.h"

/* Random choices are the same in every run. */
static struct rnd_state seeded(void)
{
	struct rnd_state state;

	prandom_seed_state(&state, 20120817);
	return state;
}

/* Mark the buffer's pages in @claims; the number of pages that were marked or lie outside. */
static unsigned long claim(struct kunit *test, const struct buffer *buf, unsigned long *claims)
{
	struct fixture *fix = test->priv;
	unsigned long pfn = buffer_pfn(test, buf);
	unsigned long i, refused = 0;

	for (i = 0; i < buffer_pages(buf); i++)
		if (!area_holds(fix->area, pfn + i) ||
		    test_and_set_bit(pfn + i - fix->area->base_pfn, claims))
			refused++;
	return refused;
}

/* As many of a page's words as tell one buffer from another, without writing all of it. */
static void stamp(struct buffer *buf, u32 id)
{
	unsigned long i;

	for (i = 0; i < buffer_pages(buf); i++)
		*(u32 *)(buf->cpu + i * PAGE_SIZE) = id + i;
}

static bool stamp_intact(const struct buffer *buf, u32 id)
{
	unsigned long i;

	for (i = 0; i < buffer_pages(buf); i++)
		if (*(u32 *)(buf->cpu + i * PAGE_SIZE) != id + i)
			return false;
	return true;
}

/*
 * No page belongs to two live buffers, nor to a buffer and to what held it before: by address, and
 * by what is written to each and read back after all were written.
 */
void live_buffers_do_not_overlap(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long *claims = area_snapshot(test, fix->area);
	struct rnd_state rnd = seeded();
	unsigned long refused = 0, spoilt = 0, live = 0;
	struct buffer *buf;

	while (live < 60) {
		buf = buffer_get(test, (prandom_u32_state(&rnd) % 64 + 1) * PAGE_SIZE);
		if (!buf)
			break;
		refused += claim(test, buf, claims);
		stamp(buf, buffer_pfn(test, buf));
		live++;
	}
	list_for_each_entry(buf, &fix->buffers, node)
		spoilt += !stamp_intact(buf, buffer_pfn(test, buf));

	KUNIT_EXPECT_GT(test, live, 10UL);
	KUNIT_EXPECT_EQ(test, refused, 0UL);
	KUNIT_EXPECT_EQ(test, spoilt, 0UL);
	metric(test, "live_buffers", live, "buffers");
}

/* Every page that is free when idle can be had, single pages first, each once. */
void every_page_is_usable(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long *claims = area_snapshot(test, fix->area);
	unsigned long refused = 0, singles = 0;
	struct buffer *buf;

	while (singles < 30 && buffer_get(test, PAGE_SIZE))
		singles++;
	KUNIT_EXPECT_GT(test, singles, 0UL);
	KUNIT_EXPECT_EQ(test, singles + buffer_fill_area(test),
			fix->area->count - bitmap_weight(fix->before, fix->area->count));
	list_for_each_entry(buf, &fix->buffers, node)
		refused += claim(test, buf, claims);
	KUNIT_EXPECT_EQ(test, refused, 0UL);
	KUNIT_EXPECT_TRUE(test, bitmap_full(claims, fix->area->count));
}

/*
 * A full area refuses without a warning (asked with __GFP_NOWARN), changes nothing by that, and
 * gives out again the one page that comes free, but not two.
 */
void exhaustion_is_clean(struct kunit *test)
{
	struct fixture *fix = test->priv;
	bool warned_before = test_taint(TAINT_WARN);
	unsigned long pfn;
	struct buffer *buf;

	buf = buffer_get(test, PAGE_SIZE);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf);
	pfn = buffer_pfn(test, buf);
	KUNIT_ASSERT_GT(test, buffer_fill_area(test), 0UL);
	KUNIT_EXPECT_EQ(test, area_used(fix->area), fix->area->count);
	KUNIT_EXPECT_PTR_EQ(test, buffer_get(test, 1), (struct buffer *)NULL);
	KUNIT_EXPECT_PTR_EQ(test, buffer_get(test, SZ_1M), (struct buffer *)NULL);
	KUNIT_EXPECT_EQ(test, area_used(fix->area), fix->area->count);
	KUNIT_EXPECT_EQ_MSG(test, test_taint(TAINT_WARN), warned_before, "the kernel warned");

	buffer_put(test, buf);
	KUNIT_EXPECT_PTR_EQ(test, buffer_get(test, 2 * PAGE_SIZE), (struct buffer *)NULL);
	buf = buffer_get(test, PAGE_SIZE);
	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "a page came free, and was refused");
	KUNIT_EXPECT_EQ(test, buffer_pfn(test, buf), pfn);

	buffer_put_all(test);
	KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
}

/* A random coming and going of buffers leaves the bitmap, bit by bit, as it was. */
void free_restores_the_bitmap(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct rnd_state rnd = seeded();
	int step;

	for (step = 0; step < 120; step++) {
		u32 pages = prandom_u32_state(&rnd) % 200 + 1;

		if (list_empty(&fix->buffers) || prandom_u32_state(&rnd) % 5 < 3)
			buffer_get(test, pages * PAGE_SIZE);
		else
			buffer_put(test, list_last_entry(&fix->buffers, struct buffer, node));
	}
	KUNIT_EXPECT_FALSE(test, list_empty(&fix->buffers));
	KUNIT_EXPECT_FALSE(test, area_unchanged(fix->area, fix->before));
	buffer_put_all(test);
	KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
}

/*
 * Buffers freed in another order than they came, every other one first, leave a whole area: the
 * largest buffer of before can be had again, every page of it.
 */
void free_in_any_order(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long largest = area_largest(fix->area);
	struct buffer *buf, *next;
	unsigned int made = 0, i = 0;

	while (made < 48 && buffer_get(test, SZ_64K))
		made++;
	KUNIT_ASSERT_GT(test, made, 3u);
	list_for_each_entry_safe(buf, next, &fix->buffers, node)
		if (i++ % 2)
			buffer_put(test, buf);
	KUNIT_EXPECT_EQ(test, area_used(fix->area) - bitmap_weight(fix->before, fix->area->count),
			(unsigned long)(made - made / 2) * (SZ_64K >> PAGE_SHIFT));
	buffer_put_all(test);

	KUNIT_EXPECT_EQ(test, area_largest(fix->area), largest);
	buf = buffer_get(test, largest << PAGE_SHIFT);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, buf);
}

/* A buffer that comes and goes many times takes nothing along. */
void cycles_do_not_leak(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned int cycle;

	for (cycle = 0; cycle < 40; cycle++) {
		struct buffer *buf = buffer_get(test, (cycle % 33 + 1) * PAGE_SIZE);

		KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "cycle %u", cycle);
		buffer_put(test, buf);
	}
	KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
}

/**
 * struct freer - frees the live buffers, on the cpu it runs on
 * @work: queued on that cpu
 * @test: the case
 */
struct freer {
	struct work_struct work;
	struct kunit *test;
};

static void freer_run(struct work_struct *work)
{
	buffer_put_all(container_of(work, struct freer, work)->test);
}

/*
 * What one cpu frees, another has at once: freed pages wait on the lists of the cpu that freed
 * them, and alloc_contig_range() empties those of all cpus before it looks. The same place is given
 * again, at the first try, although all of it was freed elsewhere.
 */
void freed_on_another_cpu(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct cma_totals before = trace_totals();
	struct freer freer = { .test = test };
	int cpu, i;

	if (num_online_cpus() < 2)
		kunit_skip(test, "there is one processor only");
	INIT_WORK_ONSTACK(&freer.work, freer_run);
	for_each_online_cpu(cpu) {
		for (i = 0; i < 4; i++) {
			unsigned long place = area_place(fix->area, 16, 0);
			struct buffer *buf = buffer_get(test, SZ_64K);

			KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf);
			KUNIT_EXPECT_EQ_MSG(test, buffer_pfn(test, buf),
					    fix->area->base_pfn + place, "freed on cpu %d", cpu);
			schedule_work_on(cpu, &freer.work);
			flush_work(&freer.work);
		}
	}
	destroy_work_on_stack(&freer.work);
	KUNIT_EXPECT_EQ(test, trace_totals().retries, before.retries);
}

/* A device takes its own area to the last page, is refused more, and never touches another. */
void other_areas_are_untouched(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long strays = 0;
	struct buffer *buf;
	unsigned int i;

	if (fix->areas.count < 2)
		kunit_skip(test, "there is one area only");
	KUNIT_EXPECT_GT(test, buffer_fill_area(test), 0UL);
	list_for_each_entry(buf, &fix->buffers, node)
		strays += buffer_first_outside(test, buf) != buffer_pages(buf);
	KUNIT_EXPECT_EQ(test, strays, 0UL);
	KUNIT_EXPECT_EQ(test, area_used(fix->area), fix->area->count);
	for (i = 0; i < fix->areas.count; i++)
		if (&fix->areas.area[i] != fix->area)
			KUNIT_EXPECT_TRUE(test, area_unchanged(&fix->areas.area[i],
							       fix->audit.bitmap[i]));
}

/*
 * The pages of the zone's areas that no buffer has: on the zone's lists, on a cpu's, or lent. What
 * the zone counts as free CMA pages is what its lists hold, and no more than these.
 */
static long free_of_cma(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct zone_free free = zone_free_read(area_zone(fix->area));
	unsigned long pages = 0;
	unsigned int i;

	for (i = 0; i < fix->areas.count; i++) {
		struct area *area = &fix->areas.area[i];
		struct area_pages where;

		if (area_zone(area) != area_zone(fix->area))
			continue;
		KUNIT_ASSERT_EQ(test, area_pages_read(&where, area, 0), 0);
		pages += where.free + where.cached + where.lent;
	}
	KUNIT_EXPECT_EQ(test, free.cma_counted, free.cma_listed);
	KUNIT_EXPECT_LE(test, free.cma_counted, pages);
	return pages;
}

/*
 * The free pages of CMA lack exactly the pages of the buffers that live, and NR_FREE_CMA_PAGES is
 * what the lists of free pages hold: to the page, since what is on the way (on a cpu's list, or
 * lent to somebody) is found where it is, and the counter is read with what each cpu has not yet
 * passed on (pages.c).
 */
void free_counter_follows(struct kunit *test)
{
	static const unsigned long sizes[] = { 1, 3, 64, 1000 };
	struct fixture *fix = test->priv;
	unsigned long largest = area_largest(fix->area), taken = 0;
	long idle = free_of_cma(test);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		if (!area_fits(fix->area, sizes[i]))
			break; /* the last one, in an area of a single pageblock */
		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buffer_get(test, sizes[i] << PAGE_SHIFT));
		taken += sizes[i];
		KUNIT_EXPECT_EQ_MSG(test, idle - free_of_cma(test), (long)taken,
				    "with %lu pages allocated", taken);
	}
	KUNIT_EXPECT_GE(test, i, ARRAY_SIZE(sizes) - 1);
	buffer_put_all(test);
	KUNIT_EXPECT_EQ(test, free_of_cma(test), idle);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buffer_get(test, largest << PAGE_SHIFT));
	KUNIT_EXPECT_EQ(test, idle - free_of_cma(test), (long)largest);
	buffer_put_all(test);
	KUNIT_EXPECT_EQ(test, free_of_cma(test), idle);
}

/* The event, if there is one, is what is expected of it. */
static void look_at_event(struct kunit *test, unsigned int position, struct cma_event expected)
{
	const struct cma_event *event = trace_event(position);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, event);
	KUNIT_ASSERT_EQ(test, (int)event->kind, (int)expected.kind);
	KUNIT_EXPECT_STREQ(test, event->name, expected.name);
	KUNIT_EXPECT_EQ(test, event->count, expected.count);
	if (event->kind != CMA_START)
		KUNIT_EXPECT_EQ(test, event->pfn, expected.pfn);
	if (event->kind != CMA_RELEASE)
		KUNIT_EXPECT_EQ(test, event->align, expected.align);
	KUNIT_EXPECT_EQ(test, event->error, 0);
	KUNIT_EXPECT_EQ(test, event->given, event->kind == CMA_FINISH);
}

/*
 * The tracepoints tell of each buffer what was asked for and what was given, in this order: the
 * area, the pages, the alignment; then the page frame; and at last that they came back.
 */
void events_tell_what_was_asked(struct kunit *test)
{
	static const size_t sizes[] = { 1, PAGE_SIZE, 5 * PAGE_SIZE - 7, SZ_64K, SZ_1M + 1 };
	struct fixture *fix = test->priv;
	size_t i;

	if (!trace_heard())
		kunit_skip(test, "this kernel's tracepoints of CMA are not those of 6.12");
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned int mark = trace_mark();
		struct buffer *buf = buffer_get(test, sizes[i]);
		struct cma_event event = { .name = fix->area->name };

		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf);
		event.pfn = buffer_pfn(test, buf);
		event.count = buffer_pages(buf);
		event.align = area_align_order(event.count);
		buffer_put(test, buf);

		KUNIT_EXPECT_EQ(test, trace_mark() - mark, 3u);
		event.kind = CMA_START;
		look_at_event(test, mark, event);
		event.kind = CMA_FINISH;
		look_at_event(test, mark + 1, event);
		event.kind = CMA_RELEASE;
		look_at_event(test, mark + 2, event);
	}
}

/* Each buffer that is given counts once as cma_alloc_success, each that is refused as _fail. */
void events_are_counted(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct cma_vm_events before = vm_events_read(test);
	unsigned long given = 0, refused = 0;
	int i;

	if (!CMA_HAS_VM_EVENTS)
		kunit_skip(test, "the counters came with 5.13 (bbb269206f3c)");
	for (i = 0; i < 5; i++)
		given += !!buffer_get(test, SZ_64K);
	for (i = 0; i < 3; i++)
		refused += !buffer_get(test, fix->area->count << PAGE_SHIFT);
	KUNIT_EXPECT_EQ(test, given, 5UL);
	KUNIT_EXPECT_EQ(test, refused, 3UL);
	KUNIT_EXPECT_EQ(test, vm_events_read(test).given - before.given, given);
	KUNIT_EXPECT_EQ(test, vm_events_read(test).refused - before.refused, refused);
}

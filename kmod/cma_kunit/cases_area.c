// SPDX-License-Identifier: GPL-2.0-only
/* What CMA promises about many buffers, and about the area as a whole. */

#include <linux/bitmap.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/vmstat.h>

#include "buffers.h"
#include "cases.h"
#include "cma_compat.h"

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
		if (!area_holds(&fix->area, pfn + i) ||
		    test_and_set_bit(pfn + i - fix->area.base_pfn, claims))
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
	unsigned long *claims = area_snapshot(test, &fix->area);
	struct rnd_state rnd = seeded();
	unsigned long refused = 0, spoilt = 0, live = 0;
	struct buffer *buf;

	while (live < 200) {
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

/* The largest buffer for which the bitmap has a place is given; a page more is refused. */
void largest_buffer(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long largest = area_largest(&fix->area);
	struct buffer *buf;

	KUNIT_ASSERT_GT(test, largest, 0UL);
	KUNIT_EXPECT_PTR_EQ(test, buffer_get(test, (largest + 1) << PAGE_SHIFT),
			    (struct buffer *)NULL);
	buf = buffer_get(test, largest << PAGE_SHIFT);
	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "%lu pages fit the bitmap", largest);
	KUNIT_EXPECT_EQ(test, buffer_first_outside(test, buf), largest);
	KUNIT_EXPECT_EQ(test, buffer_first_stray(test, buf), largest);
	metric(test, "largest_buffer", largest, "pages");
}

/* Every page that is free when idle can be had, single pages first, each once. */
void every_page_is_usable(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long *claims = area_snapshot(test, &fix->area);
	unsigned long refused = 0, singles = 0;
	struct buffer *buf;

	while (singles < 100 && buffer_get(test, PAGE_SIZE))
		singles++;
	KUNIT_EXPECT_GT(test, singles, 0UL);
	KUNIT_EXPECT_EQ(test, singles + buffer_fill_area(test),
			fix->area.count - bitmap_weight(fix->before, fix->area.count));
	list_for_each_entry(buf, &fix->buffers, node)
		refused += claim(test, buf, claims);
	KUNIT_EXPECT_EQ(test, refused, 0UL);
	KUNIT_EXPECT_TRUE(test, bitmap_full(claims, fix->area.count));
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
	KUNIT_EXPECT_EQ(test, area_used(&fix->area), fix->area.count);
	KUNIT_EXPECT_PTR_EQ(test, buffer_get(test, 1), (struct buffer *)NULL);
	KUNIT_EXPECT_PTR_EQ(test, buffer_get(test, SZ_1M), (struct buffer *)NULL);
	KUNIT_EXPECT_EQ(test, area_used(&fix->area), fix->area.count);
	KUNIT_EXPECT_EQ_MSG(test, test_taint(TAINT_WARN), warned_before, "the kernel warned");

	buffer_put(test, buf);
	KUNIT_EXPECT_PTR_EQ(test, buffer_get(test, 2 * PAGE_SIZE), (struct buffer *)NULL);
	buf = buffer_get(test, PAGE_SIZE);
	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "a page came free, and was refused");
	KUNIT_EXPECT_EQ(test, buffer_pfn(test, buf), pfn);

	buffer_put_all(test);
	KUNIT_EXPECT_TRUE(test, area_unchanged(&fix->area, fix->before));
}

/* A random coming and going of buffers leaves the bitmap, bit by bit, as it was. */
void free_restores_the_bitmap(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct rnd_state rnd = seeded();
	int step;

	for (step = 0; step < 400; step++) {
		u32 pages = prandom_u32_state(&rnd) % 200 + 1;

		if (list_empty(&fix->buffers) || prandom_u32_state(&rnd) % 5 < 3)
			buffer_get(test, pages * PAGE_SIZE);
		else
			buffer_put(test, list_last_entry(&fix->buffers, struct buffer, node));
	}
	KUNIT_EXPECT_FALSE(test, list_empty(&fix->buffers));
	KUNIT_EXPECT_FALSE(test, area_unchanged(&fix->area, fix->before));
	buffer_put_all(test);
	KUNIT_EXPECT_TRUE(test, area_unchanged(&fix->area, fix->before));
}

/*
 * Buffers freed in another order than they came, every other one first, leave a whole area: the
 * largest buffer of before can be had again, every page of it.
 */
void free_in_any_order(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long largest = area_largest(&fix->area);
	struct buffer *buf, *next;
	unsigned int made = 0, i = 0;

	while (made < 128 && buffer_get(test, SZ_64K))
		made++;
	KUNIT_ASSERT_GT(test, made, 3u);
	list_for_each_entry_safe(buf, next, &fix->buffers, node)
		if (i++ % 2)
			buffer_put(test, buf);
	KUNIT_EXPECT_EQ(test, area_used(&fix->area) - bitmap_weight(fix->before, fix->area.count),
			(unsigned long)(made - made / 2) * (SZ_64K >> PAGE_SHIFT));
	buffer_put_all(test);

	KUNIT_EXPECT_EQ(test, area_largest(&fix->area), largest);
	buf = buffer_get(test, largest << PAGE_SHIFT);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, buf);
}

/*
 * In an area cut up at random, an allocation succeeds exactly when the bitmap has an aligned place
 * for it. Both ways: a full-enough area refuses, and no place is overlooked.
 */
void fits_as_the_bitmap_says(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct rnd_state rnd = seeded();
	unsigned int given = 0, refused = 0;
	int step;

	for (step = 0; step < 400; step++) {
		unsigned long pages = prandom_u32_state(&rnd) % (fix->area.count / 8) + 1;
		bool fits = area_fits(&fix->area, pages);
		struct buffer *buf;

		if (!list_empty(&fix->buffers) && !(step % 3)) {
			buffer_put(test, list_last_entry(&fix->buffers, struct buffer, node));
			continue;
		}
		buf = buffer_get(test, pages << PAGE_SHIFT);
		KUNIT_EXPECT_EQ_MSG(test, !!buf, fits, "step %d, %lu pages", step, pages);
		given += !!buf;
		refused += !buf;
	}
	/* Else the case has seen one side only. */
	KUNIT_EXPECT_GT(test, given, 10u);
	KUNIT_EXPECT_GT(test, refused, 10u);
	metric(test, "given", given, "buffers");
	metric(test, "refused", refused, "buffers");
}

/* A buffer that comes and goes many times takes nothing along. */
void cycles_do_not_leak(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned int cycle;

	for (cycle = 0; cycle < 300; cycle++) {
		struct buffer *buf = buffer_get(test, (cycle % 33 + 1) * PAGE_SIZE);

		KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "cycle %u", cycle);
		buffer_put(test, buf);
	}
	KUNIT_EXPECT_TRUE(test, area_unchanged(&fix->area, fix->before));
}

/* A device takes its own area to the last page, is refused more, and never touches the other. */
void other_area_is_untouched(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long *other;
	struct buffer *buf;
	unsigned long strays = 0;

	if (!fix->other.count)
		kunit_skip(test, "no second area: one without linux,cma-default, and a claimant");
	other = area_snapshot(test, &fix->other);

	KUNIT_EXPECT_GT(test, buffer_fill_area(test), 0UL);
	list_for_each_entry(buf, &fix->buffers, node)
		strays += buffer_first_outside(test, buf) != buffer_pages(buf);
	KUNIT_EXPECT_EQ(test, strays, 0UL);
	KUNIT_EXPECT_EQ(test, area_used(&fix->area), fix->area.count);
	KUNIT_EXPECT_TRUE(test, area_unchanged(&fix->other, other));
}

/*
 * The free-page counter of CMA lacks a buffer's pages while it lives. Freed pages go to per-cpu
 * lists, where the counter does not see them; an allocation drains those (alloc_contig_range calls
 * drain_all_pages), so it is read right after one each time: of the whole area, then of one page.
 * What is left is the counter's own per-cpu part, at most 125 a cpu and reading
 * (calculate_normal_threshold in mm/vmstat.c).
 */
void free_counter_follows(struct kunit *test)
{
	struct fixture *fix = test->priv;
	long slack = 2 * 125 * num_online_cpus();
	long pages = area_largest(&fix->area);
	struct buffer *whole, *page;
	long full, empty;

	if (pages <= slack)
		kunit_skip(test, "the area is too small for the slack of the counter");

	whole = buffer_get(test, pages << PAGE_SHIFT);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, whole);
	full = global_zone_page_state(NR_FREE_CMA_PAGES);
	buffer_put(test, whole);

	page = buffer_get(test, PAGE_SIZE);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, page);
	empty = global_zone_page_state(NR_FREE_CMA_PAGES);
	buffer_put(test, page);

	KUNIT_EXPECT_LE(test, abs(empty - full - (pages - 1)), slack);
	metric(test, "rose_by", empty - full, "pages");
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where CMA puts a buffer: at the first free place whose page frame is aligned to the buffer's
 * size, rounded up to a power of two pages, at most 1 << CONFIG_CMA_ALIGNMENT. area_place() is that
 * sentence as code; here the allocator is held to it.
 */

#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/sizes.h>

#include "buffers.h"
#include "cases.h"
#include "cma_compat.h"

/* Allocate, and expect the place that the bitmap has for it, or a refusal when it has none. */
static struct buffer *get_as_placed(struct kunit *test, unsigned long pages)
{
	struct fixture *fix = test->priv;
	unsigned long place = area_place(fix->area, pages, 0);
	struct buffer *buf = buffer_get(test, pages << PAGE_SHIFT);

	KUNIT_EXPECT_EQ_MSG(test, !!buf, place < fix->area->count, "%lu pages", pages);
	if (buf)
		KUNIT_EXPECT_EQ_MSG(test, buffer_pfn(test, buf), fix->area->base_pfn + place,
				    "first page frame of %lu pages", pages);
	return buf;
}

/*
 * The first page frame of a buffer is aligned to the buffer's size, rounded up to a power of two
 * pages, at most 1 << CONFIG_CMA_ALIGNMENT. The page frame, not its offset in the area: the two
 * differ when the area's base is less aligned (b5be83e308f7, "mm: cma: align to physical address,
 * not CMA region position"). A page kept before the buffer makes the allocator look for an aligned
 * place.
 */
void aligned_to_the_order(struct kunit *test)
{
	struct fixture *fix = test->priv;
	int order, orders = 0;

	for (order = 0; area_fits(fix->area, 1UL << order); order++) {
		unsigned int align = min(order, CONFIG_CMA_ALIGNMENT);
		struct buffer *before = buffer_get(test, PAGE_SIZE);
		struct buffer *buf;

		KUNIT_ASSERT_NOT_ERR_OR_NULL(test, before);
		if (!area_fits(fix->area, 1UL << order)) {
			buffer_put(test, before);
			break;
		}
		buf = buffer_get(test, PAGE_SIZE << order);
		KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "order %d", order);
		KUNIT_EXPECT_EQ_MSG(test, buffer_pfn(test, buf) & ((1UL << align) - 1), 0UL,
				    "order %d at page frame %#lx", order, buffer_pfn(test, buf));
		buffer_put(test, buf);
		buffer_put(test, before);
		orders++;
	}
	KUNIT_EXPECT_GT(test, orders, 0);
	metric(test, "orders_tried", orders, "orders");
	/* Below CONFIG_CMA_ALIGNMENT, page frame and offset differ; else this proves less. */
	metric(test, "base_alignment", __ffs(fix->area->base_pfn), "order");
}

/*
 * In an area of which one page is taken, a buffer of each order, of a page less and of a page more,
 * goes to the first place, one order beyond the largest alignment included.
 */
void first_fit_of_every_order(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long largest = area_largest(fix->area);
	int order, more;

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buffer_get(test, PAGE_SIZE));
	for (order = 0; order <= CONFIG_CMA_ALIGNMENT + 1; order++) {
		for (more = -1; more <= 1; more++) {
			unsigned long pages = (1UL << order) + more;
			struct buffer *buf;

			if (!pages || pages > largest)
				continue;
			buf = get_as_placed(test, pages);
			if (buf)
				buffer_put(test, buf);
		}
	}
}

/*
 * In an area cut up at random, a buffer goes to the first place that the bitmap has for it, and is
 * refused exactly when it has none.
 */
void first_fit_among_holes(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned int given = 0, refused = 0;
	struct rnd_state rnd;
	int step;

	prandom_seed_state(&rnd, 20150312);
	for (step = 0; step < 120; step++) {
		unsigned long pages = prandom_u32_state(&rnd) % (fix->area->count / 8) + 1;

		if (!list_empty(&fix->buffers) && !(step % 3)) {
			buffer_put(test, list_last_entry(&fix->buffers, struct buffer, node));
			continue;
		}
		if (get_as_placed(test, pages))
			given++;
		else
			refused++;
	}
	/* Else the case has seen one side only. */
	KUNIT_EXPECT_GT(test, given, 10u);
	KUNIT_EXPECT_GT(test, refused, 10u);
	metric(test, "given", given, "buffers");
	metric(test, "refused", refused, "buffers");
}

/*
 * The last hole of a full area is found wherever it is, at the area's first page, its last, and
 * between, by a buffer of just its size; a page more is refused.
 */
void last_hole_fits_exactly(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned int holes = 0;
	struct buffer *buf, *next;

	KUNIT_ASSERT_GT(test, buffer_fill_area(test), 0UL);
	list_for_each_entry_safe(buf, next, &fix->buffers, node) {
		unsigned long pages = buffer_pages(buf);
		unsigned long pfn = buffer_pfn(test, buf);

		buffer_put(test, buf);
		KUNIT_EXPECT_PTR_EQ(test, buffer_get(test, (pages + 1) << PAGE_SHIFT),
				    (struct buffer *)NULL);
		/* Where it was; new buffers come before the rest of the list. */
		buf = buffer_get(test, pages << PAGE_SHIFT);
		KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "a hole of %lu pages", pages);
		KUNIT_EXPECT_EQ(test, buffer_pfn(test, buf), pfn);
		holes++;
	}
	KUNIT_EXPECT_EQ(test, area_used(fix->area), fix->area->count);
	metric(test, "holes", holes, "holes");
}

/* The largest buffer for which the bitmap has a place is given; a page more is refused. */
void largest_buffer(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long largest = area_largest(fix->area);
	struct buffer *buf;

	KUNIT_ASSERT_GT(test, largest, 0UL);
	KUNIT_EXPECT_PTR_EQ(test, buffer_get(test, (largest + 1) << PAGE_SHIFT),
			    (struct buffer *)NULL);
	buf = get_as_placed(test, largest);
	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "%lu pages fit the bitmap", largest);
	KUNIT_EXPECT_EQ(test, buffer_first_outside(test, buf), largest);
	KUNIT_EXPECT_EQ(test, buffer_first_stray(test, buf), largest);
	metric(test, "largest_buffer", largest, "pages");
}

/* An area may be had as one buffer, from its first page to its last. */
void whole_area_is_one_buffer(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct buffer *buf;

	if (area_used(fix->area))
		kunit_skip(test, "the atomic pool or another driver has pages of it");
	if (area_place(fix->area, fix->area->count, 0))
		kunit_skip(test, "its base is less aligned than a buffer of its size");
	buf = get_as_placed(test, fix->area->count);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf);
	KUNIT_EXPECT_TRUE(test, bitmap_full(fix->area->bitmap, fix->area->count));
	KUNIT_EXPECT_EQ(test, buffer_first_outside(test, buf), fix->area->count);
}

/*
 * A buffer larger than the area by one page, by far, of no bytes, or of so many that the page count
 * wraps around, is refused. It takes nothing, and no page is tried for it.
 */
void oversize_takes_nothing(struct kunit *test)
{
	struct fixture *fix = test->priv;
	const size_t sizes[] = {
		(fix->area->count + 1) << PAGE_SHIFT, fix->area->count << (PAGE_SHIFT + 1),
		SZ_2G, SIZE_MAX - 2 * PAGE_SIZE, SIZE_MAX - PAGE_SIZE + 1, SIZE_MAX, 0,
	};
	struct cma_vm_events events = vm_events_read(test);
	struct cma_totals totals = trace_totals();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		KUNIT_EXPECT_PTR_EQ_MSG(test, buffer_get(test, sizes[i]), (struct buffer *)NULL,
					"%zu bytes of %lu pages", sizes[i], fix->area->count);
		KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
	}
	KUNIT_EXPECT_EQ(test, trace_totals().retries, totals.retries);
	KUNIT_EXPECT_EQ(test, trace_totals().given, totals.given);
	if (CMA_IGNORES_OVERSIZE) {
		KUNIT_EXPECT_EQ(test, vm_events_read(test).refused, events.refused);
		KUNIT_EXPECT_EQ(test, trace_totals().refused, totals.refused);
	}
}

// SPDX-License-Identifier: GPL-2.0-only
/* What CMA and the DMA API promise a driver about one buffer. */

#include <linux/bitmap.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/of_reserved_mem.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "buffers.h"
#include "cases.h"
#include "cma_compat.h"

/* Sizes in bytes around the places where an allocator can go wrong: pages, orders, odd lengths. */
static const size_t sizes[] = {
	1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 3 * PAGE_SIZE, 5 * PAGE_SIZE - 7, SZ_64K,
	SZ_64K + PAGE_SIZE, SZ_256K - 1, SZ_1M, SZ_1M + PAGE_SIZE, 3 * SZ_1M,
};

typedef void look_fn(struct kunit *test, struct buffer *buf);

/*
 * Allocate one buffer of each size in turn, have @look inspect it, and free it. In an area of a
 * single pageblock the largest have no place beside the atomic pool.
 */
static void with_each_size(struct kunit *test, look_fn *look)
{
	struct fixture *fix = test->priv;
	size_t i, looked = 0;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct buffer *buf;

		if (!area_fits(fix->area, PFN_UP(sizes[i])))
			continue;
		buf = buffer_get(test, sizes[i]);
		KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "%zu bytes of an empty area", sizes[i]);
		look(test, buf);
		buffer_put(test, buf);
		looked++;
	}
	KUNIT_EXPECT_GT(test, looked, ARRAY_SIZE(sizes) / 2);
}

/* The allocator's idea of the area is the device tree's. */
void area_matches_the_tree(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct reserved_mem *mem;

	if (!fix->area->node)
		kunit_skip(test, "the area %s has no device-tree node", fix->area->name);
	mem = of_reserved_mem_lookup(fix->area->node);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, mem);
	KUNIT_EXPECT_EQ(test, (u64)fix->area->base_pfn << PAGE_SHIFT, (u64)mem->base);
	KUNIT_EXPECT_EQ(test, (u64)fix->area->count << PAGE_SHIFT, (u64)mem->size);
	metric(test, "area_pages", fix->area->count, "pages");
	metric(test, "used_before", area_used(fix->area), "pages");
}

static void look_inside(struct kunit *test, struct buffer *buf)
{
	KUNIT_EXPECT_EQ_MSG(test, buffer_first_outside(test, buf), buffer_pages(buf),
			    "%zu bytes at %pad", buf->size, &buf->dma);
}

/* Every page of a buffer is one of the area's. */
void buffer_lies_in_its_area(struct kunit *test)
{
	with_each_size(test, look_inside);
}

static void look_contiguous(struct kunit *test, struct buffer *buf)
{
	struct fixture *fix = test->priv;
	struct sg_table table;

	KUNIT_EXPECT_EQ_MSG(test, buffer_first_stray(test, buf), buffer_pages(buf),
			    "%zu bytes at %pad", buf->size, &buf->dma);

	KUNIT_ASSERT_EQ(test, 0, dma_get_sgtable(&fix->pdev->dev, &table, buf->cpu, buf->dma,
						 buf->size));
	KUNIT_EXPECT_EQ(test, table.orig_nents, 1u);
	KUNIT_EXPECT_EQ(test, page_to_pfn(sg_page(table.sgl)), buffer_pfn(test, buf));
	KUNIT_EXPECT_EQ(test, (unsigned long)table.sgl->length,
			buffer_pages(buf) << PAGE_SHIFT);
	sg_free_table(&table);
}

/*
 * What the driver sees at consecutive addresses is consecutive in memory: page by page, and as one
 * scatterlist entry.
 */
void buffer_is_contiguous(struct kunit *test)
{
	with_each_size(test, look_contiguous);
}

static void look_marked(struct kunit *test, struct buffer *buf)
{
	struct fixture *fix = test->priv;
	unsigned long *expected = area_snapshot(test, fix->area);
	unsigned long pfn = buffer_pfn(test, buf);

	bitmap_copy(expected, fix->before, fix->area->count);
	if (buffer_first_outside(test, buf) == buffer_pages(buf))
		bitmap_set(expected, pfn - fix->area->base_pfn, buffer_pages(buf));
	KUNIT_EXPECT_TRUE_MSG(test, area_unchanged(fix->area, expected),
			      "bitmap for %zu bytes at %pad", buf->size, &buf->dma);
}

/* The area's bitmap gains exactly the pages of the buffer, which were free before. */
void bitmap_marks_the_buffer(struct kunit *test)
{
	struct fixture *fix = test->priv;

	with_each_size(test, look_marked);
	KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
}

static void look_rounded(struct kunit *test, struct buffer *buf)
{
	struct fixture *fix = test->priv;

	KUNIT_EXPECT_EQ_MSG(test, area_used(fix->area),
			    bitmap_weight(fix->before, fix->area->count) +
			    DIV_ROUND_UP(buf->size, PAGE_SIZE), "%zu bytes", buf->size);
}

/* A buffer takes its size in whole pages, not a power of two of them. */
void sizes_round_to_pages(struct kunit *test)
{
	with_each_size(test, look_rounded);
}

/* Bytes, of all live buffers, that are not zero. */
static u64 count_dirty(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct buffer *buf;
	u64 dirty = 0;

	list_for_each_entry(buf, &fix->buffers, node) {
		const u8 *byte = buf->cpu, *end = byte + PAGE_ALIGN(buf->size);

		while ((byte = memchr_inv(byte, 0, end - byte))) {
			dirty++;
			byte++;
		}
	}
	return dirty;
}

/*
 * A buffer is all zeroes, up to the end of its last page, even when its memory was not: all of the
 * free area is written, freed, and looked at again. With init_on_alloc=1 the page allocator zeroes
 * too, and the DMA API's own clearing is not tested.
 */
void zeroed_after_dirty(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long first, again;
	struct buffer *buf;

	first = buffer_fill_area(test);
	list_for_each_entry(buf, &fix->buffers, node)
		memset(buf->cpu, 0xa5, PAGE_ALIGN(buf->size));
	buffer_put_all(test);

	again = buffer_fill_area(test);
	KUNIT_EXPECT_GT(test, first, 0UL);
	KUNIT_EXPECT_EQ(test, again, first);
	KUNIT_EXPECT_EQ(test, count_dirty(test), (u64)0);
	metric(test, "bytes_checked", (u64)again << PAGE_SHIFT, "bytes");
	metric(test, "init_on_alloc", want_init_on_alloc(GFP_KERNEL), "bool");
}

/* A buffer of the size is zeroes although its pages were dirty when they were free. */
static void look_zeroed(struct kunit *test, size_t size, unsigned long attrs)
{
	struct buffer *buf = buffer_get_attrs(test, size, GFP_QUIET, attrs);
	unsigned long pfn;

	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "%zu bytes, attributes %#lx", size, attrs);
	pfn = buffer_pfn(test, buf);
	frames_fill(pfn, buffer_pages(buf), 0x5a);
	buffer_put(test, buf);

	buf = buffer_get_attrs(test, size, GFP_QUIET, attrs);
	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "%zu bytes, attributes %#lx", size, attrs);
	KUNIT_ASSERT_EQ_MSG(test, buffer_pfn(test, buf), pfn, "not the pages that are dirty");
	KUNIT_EXPECT_EQ_MSG(test, frames_unlike(pfn, buffer_pages(buf), 0), 0UL,
			    "%zu bytes, attributes %#lx", size, attrs);
	buffer_put(test, buf);
}

/*
 * Every page of a buffer, the last one to its end, is zeroes, with each attribute that gives it an
 * address: looked at by page frames, since what a buffer's own mapping shows is not what a device
 * reads if the mapping is wrong. (DMA_ATTR_NO_KERNEL_MAPPING promises none: dma_direct_alloc() does
 * not clear such a buffer, 6.12.)
 */
void zeroed_in_every_way(struct kunit *test)
{
	static const unsigned long attrs[] = {
		0, DMA_ATTR_WRITE_COMBINE, DMA_ATTR_FORCE_CONTIGUOUS,
	};
	static const size_t odd[] = { 1, PAGE_SIZE + 1, 5 * PAGE_SIZE - 7, SZ_64K + PAGE_SIZE };
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(attrs); i++)
		for (j = 0; j < ARRAY_SIZE(odd); j++)
			look_zeroed(test, odd[j], attrs[i]);
}

/* What is written to each page through one of the two ways to it is read through the other. */
static void look_same(struct kunit *test, struct buffer *buf)
{
	unsigned long pfn = buffer_pfn(test, buf), wrong = 0, i;

	for (i = 0; i < buffer_pages(buf); i++) {
		void *page = kmap_local_page(pfn_to_page(pfn + i));
		u32 *theirs = page + PAGE_SIZE - sizeof(u32);
		u32 *mine = buf->cpu + i * PAGE_SIZE + PAGE_SIZE - sizeof(u32);

		WRITE_ONCE(*mine, pfn + i);
		wrong += READ_ONCE(*theirs) != pfn + i;
		WRITE_ONCE(*theirs, ~(pfn + i));
		wrong += READ_ONCE(*mine) != ~(pfn + i);
		kunmap_local(page);
	}
	KUNIT_EXPECT_EQ_MSG(test, wrong, 0UL, "%zu bytes at %pad", buf->size, &buf->dma);
}

/*
 * A buffer's address leads to the pages of its bus address, for reading and writing. In low memory
 * both ways are one address; in high memory the buffer has a mapping of its own. (QEMU models no
 * caches: that both see the same says nothing about them.)
 */
void buffer_is_its_pages(struct kunit *test)
{
	with_each_size(test, look_same);
}

/*
 * No attribute takes a buffer out of an area that has room, or keeps its pages after it is freed.
 * (One page of the default area, and any buffer when the area is full, may come from elsewhere
 * with DMA_ATTR_NO_KERNEL_MAPPING: dma_direct_alloc() then calls __dma_direct_alloc_pages(), 6.12.)
 */
void attributes_keep_the_area(struct kunit *test)
{
	static const unsigned long attrs[] = {
		DMA_ATTR_WRITE_COMBINE, DMA_ATTR_NO_KERNEL_MAPPING, DMA_ATTR_FORCE_CONTIGUOUS,
		DMA_ATTR_WRITE_COMBINE | DMA_ATTR_NO_KERNEL_MAPPING,
	};
	struct fixture *fix = test->priv;
	struct buffer *buf;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(attrs); i++) {
		buf = buffer_get_attrs(test, SZ_256K, GFP_QUIET, attrs[i]);
		KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "attributes %#lx", attrs[i]);
		look_inside(test, buf);
		look_marked(test, buf);
		buffer_put(test, buf);
		KUNIT_EXPECT_TRUE_MSG(test, area_unchanged(fix->area, fix->before),
				      "attributes %#lx", attrs[i]);
	}
}

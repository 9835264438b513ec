// SPDX-License-Identifier: GPL-2.0-only
/* The ways in which a driver may ask for memory, and which of them lead to CMA. */

#include <linux/dma-direct.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/of_reserved_mem.h>
#include <linux/sizes.h>

#include "buffers.h"
#include "cases.h"
#include "cma_compat.h"

static bool any_area_holds(const struct fixture *fix, unsigned long pfn)
{
	unsigned int i;

	for (i = 0; i < fix->areas.count; i++)
		if (area_holds(&fix->areas.area[i], pfn))
			return true;
	return false;
}

/*
 * An allocation that may not sleep never takes pages of the area, since CMA sleeps: it is served
 * from the atomic pool. That one was taken from the shared area at boot, so its pages have been
 * marked there since.
 */
void nonblocking_leaves_the_area(struct kunit *test)
{
	static const gfp_t flags[] = { GFP_NOWAIT, GFP_ATOMIC };
	struct fixture *fix = test->priv;
	struct cma_totals before = trace_totals();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		struct buffer *buf = buffer_get_attrs(test, PAGE_SIZE, flags[i], 0);
		unsigned long pfn;

		KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "the atomic pool gave no page");
		KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
		pfn = buffer_pfn(test, buf);
		if (area_holds(fix->area, pfn))
			KUNIT_EXPECT_TRUE_MSG(test,
					      test_bit(pfn - fix->area->base_pfn, fix->before),
					      "a page that was free came without an allocation");
		buffer_put(test, buf);
	}
	KUNIT_EXPECT_EQ(test, trace_totals().starts, before.starts);
}

/* Far more pages than the atomic pool has, which is 256 KiB by default. */
#define POOL_MAX 1024

/* Take pages of the atomic pool until it has none; returns how many. They are the buffers. */
static unsigned int exhaust_pool(struct kunit *test)
{
	unsigned int pages = 0;

	while (pages < POOL_MAX &&
	       buffer_get_attrs(test, PAGE_SIZE, GFP_ATOMIC | __GFP_NOWARN, 0))
		pages++;
	return pages;
}

/*
 * The atomic pool gives out each of its pages once, refuses when it is empty and takes no page of
 * an area then; all that is freed can be had again.
 */
void atomic_pool_comes_back(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct cma_totals before = trace_totals();
	struct buffer *buf, *other;
	unsigned int pages = exhaust_pool(test), twice = 0;

	KUNIT_ASSERT_GT(test, pages, 0u);
	KUNIT_ASSERT_LT(test, pages, (unsigned int)POOL_MAX);
	list_for_each_entry(buf, &fix->buffers, node)
		list_for_each_entry(other, &fix->buffers, node)
			twice += buf != other && buf->dma == other->dma;
	KUNIT_EXPECT_EQ(test, twice, 0u);
	list_for_each_entry(buf, &fix->buffers, node)
		KUNIT_EXPECT_EQ(test, buffer_first_stray(test, buf), 1UL);
	buffer_put_all(test);
	KUNIT_EXPECT_EQ(test, exhaust_pool(test), pages);
	buffer_put_all(test);
	KUNIT_EXPECT_EQ(test, trace_totals().starts, before.starts);
	KUNIT_EXPECT_EQ(test, trace_totals().releases, before.releases);
	metric(test, "pool", pages, "pages");
}

/*
 * A buffer without an address in the kernel is the area's as any other, except for a single page of
 * the shared area, which is not worth it and comes from the page allocator
 * (dma_alloc_contiguous(): "bypass one-page size").
 */
void pages_without_a_mapping(struct kunit *test)
{
	static const size_t sizes[] = { PAGE_SIZE, PAGE_SIZE + 1, SZ_64K, SZ_1M - PAGE_SIZE };
	struct fixture *fix = test->priv;
	size_t i;

	/* The first free page is no place for more than one from now on. */
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buffer_get(test, PAGE_SIZE));
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned long pages = PAGE_ALIGN(sizes[i]) >> PAGE_SHIFT;
		bool bypass = DMA_FALLS_BACK && fix->area->shared && pages == 1;
		unsigned long place = area_place(fix->area, pages, 0);
		struct buffer *buf = buffer_get_attrs(test, sizes[i], GFP_QUIET,
						      DMA_ATTR_NO_KERNEL_MAPPING);

		KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "%zu bytes", sizes[i]);
		KUNIT_EXPECT_EQ_MSG(test, any_area_holds(fix, buffer_pfn(test, buf)), !bypass,
				    "%zu bytes", sizes[i]);
		if (!bypass)
			KUNIT_EXPECT_EQ_MSG(test, buffer_pfn(test, buf),
					    fix->area->base_pfn + place, "%zu bytes", sizes[i]);
		buffer_put(test, buf);
	}
}

/* dma_alloc_pages(), which gives pages of the kernel's linear map; NULL when there are none. */
static struct page *pages_get(struct kunit *test, size_t size, dma_addr_t *dma, gfp_t gfp)
{
	struct fixture *fix = test->priv;

	return dma_alloc_pages(&fix->pdev->dev, size, dma, DMA_BIDIRECTIONAL, gfp);
}

static void pages_put(struct kunit *test, size_t size, struct page *page, dma_addr_t dma)
{
	struct fixture *fix = test->priv;

	dma_free_pages(&fix->pdev->dev, size, page, dma, DMA_BIDIRECTIONAL);
}

/* Whether dma_alloc_pages() takes so many pages from the area (__dma_direct_alloc_pages()). */
static bool serves_pages(const struct area *area, unsigned long pages, gfp_t gfp)
{
	return gfpflags_allow_blocking(gfp) && !area->high && !(area->shared && pages == 1);
}

static void look_at_pages(struct kunit *test, size_t size, gfp_t gfp)
{
	struct fixture *fix = test->priv;
	unsigned long pages = PAGE_ALIGN(size) >> PAGE_SHIFT;
	unsigned long place = area_place(fix->area, pages, 0);
	bool served = serves_pages(fix->area, pages, gfp);
	unsigned long used = area_used(fix->area);
	struct page *page;
	dma_addr_t dma;

	page = pages_get(test, size, &dma, gfp);
	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, page, "%zu bytes", size);
	KUNIT_EXPECT_EQ(test, PHYS_PFN(dma_to_phys(&fix->pdev->dev, dma)), page_to_pfn(page));
	KUNIT_EXPECT_PTR_EQ_MSG(test, memchr_inv(page_address(page), 0, PAGE_ALIGN(size)), NULL,
				"%zu bytes", size);
	if (served)
		KUNIT_EXPECT_EQ_MSG(test, page_to_pfn(page), fix->area->base_pfn + place,
				    "%zu bytes", size);
	else
		KUNIT_EXPECT_FALSE_MSG(test, any_area_holds(fix, page_to_pfn(page)),
				       "%zu bytes", size);
	KUNIT_EXPECT_EQ(test, area_used(fix->area), used + (served ? pages : 0));
	memset(page_address(page), 0xa5, PAGE_ALIGN(size));
	pages_put(test, size, page, dma);
	KUNIT_EXPECT_EQ(test, area_used(fix->area), used);
}

/*
 * dma_alloc_pages() takes the area's first fitting place when it may sleep and can hand out the
 * area's pages as they are, which it cannot in high memory; else, and for a single page of the
 * shared area, it takes others. They are zeroes either way, and go back where they came from. Each
 * size is asked for twice: the second time its pages are dirty.
 */
void pages_of_any_size(struct kunit *test)
{
	static const size_t sizes[] = {
		PAGE_SIZE, PAGE_SIZE + 1, 5 * PAGE_SIZE, SZ_64K, SZ_256K + PAGE_SIZE,
	};
	size_t i;

	/* The first free page is no place for more than one from now on. */
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buffer_get(test, PAGE_SIZE));
	for (i = 0; i < 2 * ARRAY_SIZE(sizes); i++)
		look_at_pages(test, sizes[i / 2], GFP_QUIET);
	for (i = 0; i < ARRAY_SIZE(sizes); i++)
		look_at_pages(test, sizes[i], GFP_NOWAIT | __GFP_NOWARN);
}

/* Free a page that is not the area's in the device's name, as dma_free_pages() has to. */
static bool free_stray_page(struct kunit *test, unsigned long pfn)
{
	struct fixture *fix = test->priv;
	struct cma_totals before = trace_totals();
	struct page *page;

	if (!pfn_valid(pfn) || any_area_holds(fix, pfn))
		return false;
	if (contig_get(pfn, pfn + 1, false, GFP_QUIET))
		return false;
	page = pfn_to_page(pfn);
	/* A reference of our own shows afterwards that the page was given back, once. */
	get_page(page);
	pages_put(test, PAGE_SIZE, page, phys_to_dma(&fix->pdev->dev, PFN_PHYS(pfn)));
	KUNIT_EXPECT_EQ_MSG(test, page_count(page), 1, "page frame %#lx", pfn);
	KUNIT_EXPECT_EQ_MSG(test, trace_totals().releases, before.releases, "page frame %#lx", pfn);
	put_page(page);
	return true;
}

/*
 * The pages right before and right behind an area are not its own: freed in the name of its device,
 * they go to the page allocator (cma_release() refuses them, dma_free_contiguous() falls back).
 */
void pages_beside_the_area_are_not_its(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned int tried;

	/* It tells a driver that frees what it did not allocate, and rightly. */
	if (IS_ENABLED(CONFIG_DMA_API_DEBUG))
		kunit_skip(test, "DMA_API_DEBUG would warn");
	tried = free_stray_page(test, fix->area->base_pfn - 1);
	tried += free_stray_page(test, fix->area->base_pfn + fix->area->count);
	KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
	if (!tried)
		kunit_skip(test, "both pages beside the area are in use, or another area's");
	metric(test, "neighbours", tried, "pages");
}

/*
 * A device that reaches only what lies below its area gets pages from there or none, never those of
 * the area, which keeps them (__dma_direct_alloc_pages() looks at what CMA gave it).
 * dma_alloc_pages() does; ARM's dma_alloc_coherent() does not look at the limit, 6.12, and is not
 * asked.
 */
void limit_of_the_bus_is_kept(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct device *dev = &fix->pdev->dev;
	phys_addr_t limit = PFN_PHYS(fix->area->base_pfn) - 1;
	struct page *page;
	dma_addr_t dma;

	dev->bus_dma_limit = limit;
	page = pages_get(test, SZ_64K, &dma, GFP_QUIET);
	KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
	if (page) {
		KUNIT_EXPECT_LE(test, page_to_phys(page) + SZ_64K - 1, limit);
		pages_put(test, SZ_64K, page, dma);
	}
	dev->bus_dma_limit = 0;

	page = pages_get(test, SZ_64K, &dma, GFP_QUIET);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, page);
	KUNIT_EXPECT_EQ(test, area_holds(fix->area, page_to_pfn(page)), !fix->area->high);
	pages_put(test, SZ_64K, page, dma);
}

/* A mask with which a device reaches none of the memory is refused, and the old one stays. */
void short_mask_is_refused(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct device *dev = &fix->pdev->dev;
	u64 mask = DMA_BIT_MASK(fls(fix->area->base_pfn) + PAGE_SHIFT - 1);

	/* dma_direct_supported(): then a mask is enough that reaches the zone. */
	if (IS_ENABLED(CONFIG_ZONE_DMA))
		kunit_skip(test, "the kernel has a zone for devices with short masks: ZONE_DMA");
	KUNIT_EXPECT_EQ(test, dma_set_coherent_mask(dev, mask), -EIO);
	KUNIT_EXPECT_EQ(test, dev->coherent_dma_mask, DMA_BIT_MASK(32));
}

/*
 * An area may be assigned to a device twice. Once it is released, the device is one of those that
 * claim none; assigned again, it has its area again.
 */
void device_can_be_assigned_again(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct device *dev = &fix->pdev->dev;
	struct buffer *buf;

	if (fix->area->shared)
		kunit_skip(test, "no device claims the shared area");
	KUNIT_ASSERT_EQ(test, of_reserved_mem_device_init_by_idx(dev, fix->area->claimant, 0), 0);
	buf = buffer_get(test, SZ_64K);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf);
	KUNIT_EXPECT_EQ(test, buffer_first_outside(test, buf), buffer_pages(buf));
	buffer_put(test, buf);

	of_reserved_mem_device_release(dev);
	buf = buffer_get(test, SZ_64K);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf);
	KUNIT_EXPECT_EQ(test, buffer_first_outside(test, buf), 0UL);
	buffer_put(test, buf);

	KUNIT_ASSERT_EQ(test, of_reserved_mem_device_init_by_idx(dev, fix->area->claimant, 0), 0);
	buf = buffer_get(test, SZ_64K);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, buf);
	KUNIT_EXPECT_EQ(test, buffer_first_outside(test, buf), buffer_pages(buf));
}

/* Return NULL to the caller at once, in the place of the function. */
static int return_null(struct kprobe *probe, struct pt_regs *regs)
{
	regs->ARM_r0 = 0;
	regs->ARM_pc = regs->ARM_lr & ~1UL;
	return 1;
}

/*
 * A buffer in high memory that gets pages but no address for them is refused, and the pages go back
 * (__alloc_from_contiguous()). The kernel is made to run out of addresses by a kprobe, which
 * answers for the function that gives them.
 */
void failed_mapping_gives_pages_back(struct kunit *test)
{
	static struct kprobe probe = {
		.symbol_name = "dma_common_contiguous_remap",
		.pre_handler = return_null,
	};
	struct fixture *fix = test->priv;
	struct cma_totals before = trace_totals(), now;
	struct buffer *buf;

	if (!fix->area->high)
		kunit_skip(test, "low memory has its addresses already");
	probe.addr = NULL;
	probe.flags = 0;
	if (register_kprobe(&probe))
		kunit_skip(test, "dma_common_contiguous_remap() takes no kprobe: CONFIG_KPROBES");
	buf = buffer_get(test, SZ_64K);
	unregister_kprobe(&probe);

	KUNIT_EXPECT_PTR_EQ(test, buf, (struct buffer *)NULL);
	KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));
	if (trace_heard()) {
		now = trace_totals();
		KUNIT_EXPECT_EQ(test, now.given - before.given, 1UL);
		KUNIT_EXPECT_EQ(test, now.releases - before.releases, 1UL);
	}
	KUNIT_EXPECT_NOT_ERR_OR_NULL(test, buffer_get(test, SZ_64K));
}

/* The address of a function that is not exported, to call it; 0 when there is none. */
static unsigned long address_of(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	unsigned long address;

	if (register_kprobe(&probe))
		return 0;
	address = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	return IS_ENABLED(CONFIG_THUMB2_KERNEL) ? address | 1 : address;
}

/*
 * cma_alloc_folio() gives one compound page, aligned to its order, with all its pages in the area;
 * cma_free_folio() takes it back whole, and pages of nobody's not at all. They are of huge pages
 * (since 6.12, "mm/cma: add cma_{alloc,free}_folio()"), not exported, and so called by address.
 * A whole pageblock, since 6.12 has a WARN() for a part of a free page and loses the rest of it
 * (alloc_contig_range_noprof(), `start == outer_start && end == outer_end`).
 */
void folio_is_one_compound_page(struct kunit *test)
{
	struct folio *(*get)(struct cma *cma, int order, gfp_t gfp);
	bool (*put)(struct cma *cma, const struct folio *folio);
	struct fixture *fix = test->priv;
	struct device *dev = &fix->pdev->dev;
	const int order = pageblock_order;
	struct folio *folio;
	unsigned long pfn, taken;
	struct page *single;

	if (!dev->cma_area)
		kunit_skip(test, "the shared area is not known by an address to modules");
	get = (void *)address_of("cma_alloc_folio");
	put = (void *)address_of("cma_free_folio");
	if (!get || !put)
		kunit_skip(test, "no cma_alloc_folio() (since 6.12), or no CONFIG_KPROBES");

	folio = get(dev->cma_area, order, GFP_KERNEL | __GFP_COMP | __GFP_NOWARN);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, folio);
	pfn = folio_pfn(folio);
	taken = area_used(fix->area);
	KUNIT_EXPECT_EQ(test, folio_order(folio), (unsigned int)order);
	KUNIT_EXPECT_EQ(test, pfn & ((1UL << order) - 1), 0UL);
	KUNIT_EXPECT_TRUE(test, area_holds(fix->area, pfn));
	KUNIT_EXPECT_TRUE(test, area_holds(fix->area, pfn + (1UL << order) - 1));
	KUNIT_EXPECT_TRUE(test, put(dev->cma_area, folio));
	KUNIT_EXPECT_EQ(test, taken - area_used(fix->area), 1UL << order);
	KUNIT_EXPECT_TRUE(test, area_unchanged(fix->area, fix->before));

	single = alloc_pages(GFP_KERNEL | __GFP_COMP, order);
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, single);
	KUNIT_EXPECT_FALSE(test, put(dev->cma_area, page_folio(single)));
	__free_pages(single, order);
}

static int count_area(struct cma *cma, void *data)
{
	unsigned int *left = data;

	return --*left ? 0 : -ECANCELED;
}

/* cma_for_each_area() shows every area once, and ends with the first answer that is not 0. */
void walk_shows_every_area(struct kunit *test)
{
	int (*walk)(int (*it)(struct cma *cma, void *data), void *data);
	struct fixture *fix = test->priv;
	unsigned int left;

	walk = (void *)address_of("cma_for_each_area");
	if (!walk)
		kunit_skip(test, "cma_for_each_area() cannot be found: CONFIG_KPROBES");
	left = fix->areas.count + 1;
	KUNIT_EXPECT_EQ(test, walk(count_area, &left), 0);
	KUNIT_EXPECT_EQ(test, left, 1u);
	left = 1;
	KUNIT_EXPECT_EQ(test, walk(count_area, &left), -ECANCELED);
	KUNIT_EXPECT_EQ(test, left, 0u);
}

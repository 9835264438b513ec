// SPDX-License-Identifier: GPL-2.0-only
/* DMA buffers of a case: allocated, looked at page by page, and freed whatever happens. */

#include <linux/dma-direct.h>
#include <linux/mm.h>
#include <linux/pfn.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "buffers.h"

/* Allocate @size bytes; NULL when the DMA API has none. */
struct buffer *buffer_get_attrs(struct kunit *test, size_t size, gfp_t gfp, unsigned long attrs)
{
	struct fixture *fix = test->priv;
	struct buffer *buf = kzalloc(sizeof(*buf), GFP_KERNEL);

	KUNIT_ASSERT_NOT_ERR_OR_NULL_MSG(test, buf, "no memory for the test");
	buf->size = size;
	buf->attrs = attrs;
	buf->cpu = dma_alloc_attrs(&fix->pdev->dev, size, &buf->dma, gfp, attrs);
	if (!buf->cpu) {
		kfree(buf);
		return NULL;
	}
	list_add(&buf->node, &fix->buffers);
	return buf;
}

struct buffer *buffer_get(struct kunit *test, size_t size)
{
	return buffer_get_attrs(test, size, GFP_QUIET, 0);
}

void buffer_put(struct kunit *test, struct buffer *buf)
{
	struct fixture *fix = test->priv;

	list_del(&buf->node);
	dma_free_attrs(&fix->pdev->dev, buf->size, buf->cpu, buf->dma, buf->attrs);
	kfree(buf);
}

void buffer_put_all(struct kunit *test)
{
	struct fixture *fix = test->priv;
	struct buffer *buf, *next;

	list_for_each_entry_safe(buf, next, &fix->buffers, node)
		buffer_put(test, buf);
}

/*
 * Allocate until not one more page can be had, from the largest order the area can hold to single
 * pages. Returns the pages taken.
 */
unsigned long buffer_fill_area(struct kunit *test)
{
	struct fixture *fix = test->priv;
	unsigned long taken = 0;
	int order;

	for (order = get_order(fix->area.count << PAGE_SHIFT); order >= 0; order--)
		while (buffer_get(test, PAGE_SIZE << order))
			taken += 1UL << order;
	return taken;
}

/* The first page frame of the buffer, from its bus address. */
unsigned long buffer_pfn(struct kunit *test, const struct buffer *buf)
{
	struct fixture *fix = test->priv;

	return PHYS_PFN(dma_to_phys(&fix->pdev->dev, buf->dma));
}

/* The index of the first page that is not one of the area's, or the number of pages. */
unsigned long buffer_first_outside(struct kunit *test, const struct buffer *buf)
{
	struct fixture *fix = test->priv;
	unsigned long pfn = buffer_pfn(test, buf);
	unsigned long i = 0;

	while (i < buffer_pages(buf) && area_holds(&fix->area, pfn + i))
		i++;
	return i;
}

/*
 * The index of the first page whose kernel address does not lead to the page frame that the bus
 * address promises, or the number of pages. A buffer in high memory has a mapping of its own, made
 * page by page; one in low memory is used through the kernel's linear map, which proves that the
 * two addresses belong together but cannot prove more.
 */
unsigned long buffer_first_stray(struct kunit *test, const struct buffer *buf)
{
	unsigned long first = buffer_pfn(test, buf);
	unsigned long i;

	for (i = 0; i < buffer_pages(buf); i++) {
		void *page = buf->cpu + i * PAGE_SIZE;
		unsigned long pfn = is_vmalloc_addr(page) ? vmalloc_to_pfn(page)
							  : page_to_pfn(virt_to_page(page));

		if (pfn != first + i)
			break;
	}
	return i;
}
